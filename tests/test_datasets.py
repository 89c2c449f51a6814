"""Data sets: typed columns, checked bytes, and a clear word when there is nothing to load."""

import functools
import hashlib
import http.server
import socket
import threading

import numpy as np
import pandas as pd
import pytest

from abmtools import datasets
from abmtools.datasets import DataUnavailableError, load_dutilh2011

NUM_TRIALS = {
    "A": 401,
    "B": 486,
    "C": 333,
    "D": 1063,
    "E": 587,
    "F": 1168,
    "G": 468,
    "H": 611,
    "I": 971,
    "J": 860,
    "K": 565,
}


def content(participant):
    """A tiny file in the published format, another one for every participant."""
    first = ord(participant) / 100
    return f"pacc,rt,accumulator\n0,{first},2\n1.5,0.22,1\n2,0.177,2\n"


@pytest.fixture
def tiny(tmp_path, monkeypatch):
    """Tiny files in `tmp_path`/source/dutilh2011, recorded in place of the published ones.

    No local copy is named, nothing is in the cache, and the public source cannot be reached.
    """
    folder = tmp_path / "source" / "dutilh2011"
    folder.mkdir(parents=True)
    for participant in NUM_TRIALS:
        name = f"dutilh_2010_subject_{participant}.csv"
        data = content(participant).encode()
        (folder / name).write_bytes(data)
        checksum = f"sha256:{hashlib.sha256(data).hexdigest()}"
        monkeypatch.setitem(datasets._DUTILH2011.registry, name, checksum)
    monkeypatch.delenv("ABMTOOLS_DATA", raising=False)
    monkeypatch.setattr(datasets._DUTILH2011, "path", tmp_path / "cache")
    monkeypatch.setattr(datasets._DUTILH2011, "base_url", unreachable_url())
    return folder


def unreachable_url():
    """A URL on this machine where nothing listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}/"


@pytest.fixture
def served(tiny, monkeypatch):
    """The tiny files behind a web server, in place of the public source."""
    handler = functools.partial(QuietHandler, directory=tiny)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        url = f"http://127.0.0.1:{server.server_port}/"
        monkeypatch.setattr(datasets._DUTILH2011, "base_url", url)
        yield tiny
        server.shutdown()
        thread.join()


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


def test_columns_are_typed(tiny, monkeypatch):
    monkeypatch.setenv("ABMTOOLS_DATA", str(tiny.parent))
    data = load_dutilh2011("B")
    expected = pd.DataFrame(
        {
            "participant": pd.Categorical(["B"] * 3, categories=list("ABCDEFGHIJK")),
            "trial": np.array([1, 2, 3], dtype="int64"),
            "pay_off": [0.0, 1.5, 2.0],
            "rt": [0.66, 0.22, 0.177],
            "correct": [False, True, False],
        }
    )
    pd.testing.assert_frame_equal(data, expected)


def test_all_stacks_the_participants(tiny, monkeypatch):
    monkeypatch.setenv("ABMTOOLS_DATA", str(tiny.parent))
    data = load_dutilh2011()
    assert data["participant"].dtype == "category"
    assert list(data["participant"]) == [name for name in "ABCDEFGHIJK" for _ in range(3)]
    assert list(data["trial"]) == [1, 2, 3] * 11
    for name, part in data.groupby("participant", observed=True):
        single = load_dutilh2011(name).reset_index(drop=True)
        pd.testing.assert_frame_equal(part.reset_index(drop=True), single)


def test_source_and_licence_travel_with_the_data(tiny, monkeypatch):
    monkeypatch.setenv("ABMTOOLS_DATA", str(tiny.parent))
    for participant in ("A", "all"):
        attributes = load_dutilh2011(participant).attrs
        assert attributes["license"] == "CC0-1.0"
        assert "c3fc74f9405f2171c0d206a14eb92fe3448cba9a" in attributes["source"]
        assert "Cognitive Science" in attributes["citation"]
        assert "10.1007/s42113-021-00115-0" in attributes["files_published_with"]


@pytest.mark.parametrize("participant", ["L", "b", "", 1, None, ["A"]])
def test_unknown_participant(participant):
    with pytest.raises(ValueError, match=r'participant must be one of "A", .*"K" or "all"; got'):
        load_dutilh2011(participant)


def test_download_is_kept(served, monkeypatch):
    first = load_dutilh2011("D")
    monkeypatch.setattr(datasets._DUTILH2011, "base_url", unreachable_url())
    pd.testing.assert_frame_equal(load_dutilh2011("D"), first)
    assert first["rt"].iloc[0] == 0.68


def test_local_copy_comes_before_a_download(tiny, monkeypatch):
    monkeypatch.setenv("ABMTOOLS_DATA", str(tiny.parent))
    load_dutilh2011("all")
    assert not datasets._DUTILH2011.path.exists()


def test_file_missing_from_the_local_copy_is_downloaded(served, tmp_path, monkeypatch):
    monkeypatch.setenv("ABMTOOLS_DATA", str(tmp_path / "empty"))
    assert len(load_dutilh2011("A")) == 3


def test_altered_local_copy_is_refused(tiny, monkeypatch):
    monkeypatch.setenv("ABMTOOLS_DATA", str(tiny.parent))
    (tiny / "dutilh_2010_subject_C.csv").write_text(content("D"))
    with pytest.raises(ValueError, match=r"subject_C\.csv is not the published file.*SHA-256"):
        load_dutilh2011("C")
    with pytest.raises(ValueError, match="is not the published file"):
        load_dutilh2011("all")


def test_altered_download_is_refused(served):
    (served / "dutilh_2010_subject_C.csv").write_text("<html>Please log in</html>")
    with pytest.raises(DataUnavailableError, match="ABMTOOLS_DATA is not set"):
        load_dutilh2011("C")


def test_unreachable_source_says_what_to_do(tiny, tmp_path, monkeypatch):
    with pytest.raises(DataUnavailableError, match="is not available: ABMTOOLS_DATA is not set"):
        load_dutilh2011("E")
    monkeypatch.setenv("ABMTOOLS_DATA", str(tmp_path / "empty"))
    with pytest.raises(DataUnavailableError, match=r"empty\S* does not exist.*copy the files of"):
        load_dutilh2011("E")


def test_absent_page_says_what_to_do(served):
    (served / "dutilh_2010_subject_C.csv").unlink()
    with pytest.raises(DataUnavailableError, match=r"HTTPError.*Connect to the internet"):
        load_dutilh2011("C")


def load_or_reason(participant):
    """The data, or the message that they are not to be had (offline, without a local copy)."""
    try:
        return load_dutilh2011(participant), None
    except DataUnavailableError as error:
        return None, str(error)


@pytest.mark.parametrize("participant", NUM_TRIALS)
def test_published_data_or_a_clear_error(participant):
    data, reason = load_or_reason(participant)
    if data is None:
        assert "let ABMTOOLS_DATA name the folder" in reason
    else:
        assert len(data) == NUM_TRIALS[participant]
        assert data["rt"].between(0.05, 5).all()
        assert 0.6 < data["correct"].mean() < 0.85
        assert not data.isna().any(axis=None)
