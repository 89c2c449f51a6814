"""Real data, fetched on request and checked byte for byte.

Nothing is downloaded at import. A loader takes a file from the folder that the environment variable
``ABMTOOLS_DATA`` names, if it is there, and otherwise from its public source at a pinned commit,
which it keeps in the user's cache folder. Either way the file has to have the SHA-256 recorded
here. When neither way works the loader says so; it never returns other data instead.

The one data set so far is a response time experiment on the trade-off between speed and accuracy
(Dutilh et al., 2011). A pay-off for accurate answers rose and fell slowly over the trials, and
people switched between guessing fast and answering slowly with control: a mixture of two processes,
whose membership depends on the membership at the trial before.

References
----------
Dutilh, G., Wagenmakers, E.-J., Visser, I., & van der Maas, H. L. J. (2011). A phase transition
model for the speed-accuracy trade-off in response time experiments. Cognitive Science, 35, 211-250.
"""

import os
from pathlib import Path

import pandas as pd
import pooch

__all__ = ["DataUnavailableError", "load_dutilh2011"]

_COMMIT = "c3fc74f9405f2171c0d206a14eb92fe3448cba9a"
_SOURCE = f"https://github.com/Kucharssim/hmm_slba/tree/{_COMMIT}/data"
_FILE = "dutilh_2010_subject_{}.csv"
_CHECKSUMS = {
    "A": "c913491b6c5f7bafc4399c2a81a6738cc6865d67efac46cd66904283976c4d95",
    "B": "18add72cdc1e59eeac84be9b2b2d975e300842a05973b45f871c7491068480fb",
    "C": "561c180bd312addbc50f6388ad99173d7019630289cd4a4feffff147183d83a3",
    "D": "15f8ee5807f3f8234f0f736c866b7c2d84483f5e9582e289f8b4efa8a32a9125",
    "E": "bc9f671420a1efa098c246506de25621a90b1a7056500abe2594327967b33304",
    "F": "7713a03d238da606b26aed0929e292044dff908a38d8954c2e9346681d4814a4",
    "G": "d5daf243cc96e31badf202081c3ba27294823101a3b3d67adcac3ad1a5e6bcd9",
    "H": "a49b166db823941b481fb1219c6f52da2cc18877a45c50db5856441a112625d2",
    "I": "e7af00c8af6b43370487585aa298a3d4c6984890da6d10c5a704f3881673ee03",
    "J": "9b468a368acc215af7adf63965c58c80e0bd42732f250f50d329e78a285e5040",
    "K": "1ae47eb462c6459397a4c28833e4d42a8c9c1a0628984c82eb093654a0f315f4",
}
_PARTICIPANTS = tuple(_CHECKSUMS)
_DUTILH2011 = pooch.create(
    path=pooch.os_cache("abmtools") / "dutilh2011",
    base_url=f"https://raw.githubusercontent.com/Kucharssim/hmm_slba/{_COMMIT}/data/",
    registry={_FILE.format(key): f"sha256:{value}" for key, value in _CHECKSUMS.items()},
)
_ATTRIBUTES = {
    "source": _SOURCE,
    "license": "CC0-1.0",
    "citation": (
        "Dutilh, G., Wagenmakers, E.-J., Visser, I., & van der Maas, H. L. J. (2011). A phase "
        "transition model for the speed-accuracy trade-off in response time experiments. "
        "Cognitive Science, 35, 211-250."
    ),
    "files_published_with": "Kucharský et al. (2021), https://doi.org/10.1007/s42113-021-00115-0",
}


class DataUnavailableError(RuntimeError):
    """A data file is neither in a local copy nor to be had from its public source."""


def load_dutilh2011(participant: str = "all") -> pd.DataFrame:
    """Response times and accuracy under a varying pay-off for accuracy, all trials.

    Parameters
    ----------
    participant : str, optional
        One of ``"A"`` to ``"K"``, or ``"all"`` (the default) for the eleven below each other.

    Returns
    -------
    pandas.DataFrame
        One row per trial, in the order of the experiment, with the columns

        - ``participant`` (category): ``"A"`` to ``"K"``;
        - ``trial`` (int64): 1, 2, ... within a participant;
        - ``pay_off`` (float64): pay-off for accuracy, the files' ``pacc``;
        - ``rt`` (float64): response time in seconds;
        - ``correct`` (bool): whether the answer was correct (the files' ``accumulator``: 1 is
          correct, 2 is not).

        ``attrs`` holds source, licence and citation.

    Raises
    ------
    ValueError
        If `participant` is none of these, or if a file in the folder ``ABMTOOLS_DATA`` names is
        not the published one.
    DataUnavailableError
        If a file is not in a local copy and cannot be downloaded either.

    Notes
    -----
    The data are in the public domain (CC0 1.0). They were collected by Dutilh et al. (2011); the
    files are those that Kucharský et al. (2021) published.

    References
    ----------
    Dutilh, G., Wagenmakers, E.-J., Visser, I., & van der Maas, H. L. J. (2011). A phase transition
    model for the speed-accuracy trade-off in response time experiments. Cognitive Science, 35,
    211-250.

    Kucharský, Š., et al. (2021). https://doi.org/10.1007/s42113-021-00115-0. Files:
    https://github.com/Kucharssim/hmm_slba, folder ``data``.

    Examples
    --------
    The response times of one participant, as observations of one data set:

    >>> data = load_dutilh2011("B")
    >>> list(data.columns)
    ['participant', 'trial', 'pay_off', 'rt', 'correct']
    >>> data["rt"].to_numpy().shape
    (486,)
    """
    if participant not in (*_PARTICIPANTS, "all"):
        expected = ", ".join(f'"{name}"' for name in _PARTICIPANTS)
        raise ValueError(f'participant must be one of {expected} or "all"; got {participant!r}.')
    names = _PARTICIPANTS if participant == "all" else (participant,)
    data = pd.concat([_read_participant(name) for name in names], ignore_index=True)
    data["participant"] = pd.Categorical(data["participant"], categories=_PARTICIPANTS)
    data.attrs.update(_ATTRIBUTES)
    return data


def _read_participant(name: str) -> pd.DataFrame:
    """Read one participant's file into the columns of `load_dutilh2011`."""
    raw = pd.read_csv(_locate(_FILE.format(name)), dtype={"pacc": float, "rt": float})
    return pd.DataFrame(
        {
            "participant": name,
            "trial": range(1, len(raw) + 1),
            "pay_off": raw["pacc"],
            "rt": raw["rt"],
            "correct": raw["accumulator"] == 1,
        }
    )


def _locate(filename: str) -> Path:
    """Path of a file with the recorded checksum: the local copy, or else a download."""
    folder = os.environ.get("ABMTOOLS_DATA")
    local = Path(folder, "dutilh2011", filename) if folder else None
    if local is not None and local.is_file():
        return _verify(local)
    try:
        return Path(_DUTILH2011.fetch(filename))
    except (OSError, ValueError) as error:  # no network or no such page; wrong contents
        looked = f"{local} does not exist" if local else "ABMTOOLS_DATA is not set"
        raise DataUnavailableError(
            f"{filename} is not available: {looked}, and downloading "
            f"{_DUTILH2011.get_url(filename)} failed ({type(error).__name__}). Connect to the "
            f"internet and try again; or copy the files of {_SOURCE} to a folder named "
            "'dutilh2011' and let ABMTOOLS_DATA name the folder that contains it."
        ) from error


def _verify(path: Path) -> Path:
    """Return `path` if the file has the recorded checksum, or say that it does not."""
    expected = _DUTILH2011.registry[path.name].removeprefix("sha256:")
    actual = pooch.file_hash(str(path), alg="sha256")
    if actual != expected:
        raise ValueError(
            f"{path} is not the published file: expected SHA-256 {expected}, got {actual}. "
            "Replace it, or unset ABMTOOLS_DATA to download it."
        )
    return path
