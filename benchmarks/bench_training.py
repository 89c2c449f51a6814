"""How long the shipped networks were trained, as their cards say; `make train` does it again."""

import json

from record import Report

from abmtools.inference.pretrained import ARCHITECTURES, weights_folder

TARGETS = {"gaussian_mixture": 90, "gaussian_hmm": 90}  # minutes on a CPU, at most


def main() -> None:
    for name in ARCHITECTURES:
        card = json.loads((weights_folder(name) / "card.json").read_text(encoding="utf-8"))
        num_datasets = card["budget"]["num_datasets"] / 1e6
        with Report(__file__, name) as report:
            report.add(
                f"training from scratch, {num_datasets:.1f} million data sets ({card['hardware']})",
                card["seconds"] / 60,
                unit="minutes",
                at_most=TARGETS.get(name),
            )


if __name__ == "__main__":
    main()
