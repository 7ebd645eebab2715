"""ODINW as it was released: names, folders and test splits, as data; `read_odinw` reads a suite of them.

Sources, read in their repositories: github.com/microsoft/GLIP, configs/odinw_13 and configs/odinw_35 (`_all.json` lists
the 35; commits f91be1a and 91f2092), and github.com/open-mmlab/mmdetection, configs/odinw (`..._odinw13.py`,
`..._odinw35.py`). They agree on folders and annotation files, and differ in this:

1. mmdetection tests every set on its `valid` split. GLIP's configurations name `val`, the same files, for 24 of the 35 and
   `minival`, the folder `mini_val`, for the other 11 (`glip_test`).
2. For the pistols, mmdetection's list of 13 (commit 074d098) names valid/annotations_without_background.json; its list of
   35 and both of GLIP's name export/val_annotations_without_background.json, which is what is read here.
3. GLIP's and mmdetection's lists of 35 rename categories before they ask (`RENAMED`); mmdetection's list of 13 keeps the
   file's names of the mushrooms. Names are the file's here unless `renamed=True`.

Neither is what the released Vision-R1 evaluation does: it asks for present categories only. See `vr1kit.evaluate`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from vr1kit.formats.coco import read_coco_folder
from vr1kit.records import DataError, DetectionSet


@dataclass(frozen=True)
class OdinwSet:
    name: str  # mmdetection's
    folder: str  # below the folder of all sets
    glip_test: str = "valid"  # the split that GLIP tests on


SETS = (
    OdinwSet("AerialMaritimeDrone_large", "AerialMaritimeDrone/large"),
    OdinwSet("AerialMaritimeDrone_tiled", "AerialMaritimeDrone/tiled"),
    OdinwSet("AmericanSignLanguageLetters", "AmericanSignLanguageLetters/American Sign Language Letters.v1-v1.coco"),
    OdinwSet("Aquarium", "Aquarium/Aquarium Combined.v2-raw-1024.coco"),
    OdinwSet("BCCD", "BCCD/BCCD.v3-raw.coco"),
    OdinwSet("boggleBoards", "boggleBoards/416x416AutoOrient/export"),
    OdinwSet("brackishUnderwater", "brackishUnderwater/960x540", "mini_val"),
    OdinwSet("ChessPieces", "ChessPieces/Chess Pieces.v23-raw.coco"),
    OdinwSet("CottontailRabbits", "CottontailRabbits"),
    OdinwSet("dice", "dice/mediumColor/export"),
    OdinwSet("DroneControl", "DroneControl/Drone Control.v3-raw.coco", "mini_val"),
    OdinwSet("EgoHands_generic", "EgoHands/generic", "mini_val"),
    OdinwSet("EgoHands_specific", "EgoHands/specific", "mini_val"),
    OdinwSet("HardHatWorkers", "HardHatWorkers/raw"),
    OdinwSet("MaskWearing", "MaskWearing/raw"),
    OdinwSet("MountainDewCommercial", "MountainDewCommercial"),
    OdinwSet("NorthAmericaMushrooms", "NorthAmericaMushrooms/North American Mushrooms.v1-416x416.coco"),
    OdinwSet("openPoetryVision", "openPoetryVision/512x512", "mini_val"),
    OdinwSet("OxfordPets_by_breed", "OxfordPets/by-breed", "mini_val"),
    OdinwSet("OxfordPets_by_species", "OxfordPets/by-species", "mini_val"),
    OdinwSet("PKLot", "PKLot/640", "mini_val"),
    OdinwSet("Packages", "Packages/Raw"),
    OdinwSet("PascalVOC", "PascalVOC"),
    OdinwSet("pistols", "pistols/export"),
    OdinwSet("plantdoc", "plantdoc/416x416"),
    OdinwSet("pothole", "pothole"),
    OdinwSet("Raccoon", "Raccoon/Raccoon.v2-raw.coco"),
    OdinwSet("selfdrivingCar", "selfdrivingCar/fixedLarge/export"),
    OdinwSet("ShellfishOpenImages", "ShellfishOpenImages/raw"),
    OdinwSet("ThermalCheetah", "ThermalCheetah"),
    OdinwSet("thermalDogsAndPeople", "thermalDogsAndPeople"),
    OdinwSet("UnoCards", "UnoCards/raw", "mini_val"),
    OdinwSet("VehiclesOpenImages", "VehiclesOpenImages/416x416", "mini_val"),
    OdinwSet("WildfireSmoke", "WildfireSmoke"),
    OdinwSet("websiteScreenshots", "websiteScreenshots"  , "mini_val"),
)  # fmt: skip
ODINW_35 = tuple(each.name for each in SETS)
ODINW_13 = (
    "AerialMaritimeDrone_large", "Aquarium", "CottontailRabbits", "EgoHands_generic", "NorthAmericaMushrooms", "Packages",
    "PascalVOC", "pistols", "pothole", "Raccoon", "ShellfishOpenImages", "thermalDogsAndPeople", "VehiclesOpenImages",
)  # fmt: skip
# Names by category id, where GLIP's OVERRIDE_CATEGORY is known to differ from the file's (mmdetection, override_category.py).
RENAMED: Mapping[str, Mapping[int, str]] = {
    "ChessPieces": {
        1: "  ", 2: "black bishop", 3: "black king", 4: "black knight", 5: "black pawn", 6: "black queen", 7: "black rook",
        8: "white bishop", 9: "white king", 10: "white knight", 11: "white pawn", 12: "white queen", 13: "white rook",
    },
    "NorthAmericaMushrooms": {1: "flat mushroom", 2: "yellow mushroom"},
}  # fmt: skip


SUITES: Mapping[str, tuple[str, ...]] = {"odinw13": ODINW_13, "odinw35": ODINW_35}


def find_suite(folder: str | os.PathLike, suite: str, split: str = "valid") -> dict[str, tuple[Path, str]]:
    """Name -> (folder, split) of the sets of a suite. `split` as in `read_odinw`. Raises DataError for absent sets, all named."""
    if suite not in SUITES:
        raise ValueError(f"suite must be one of {', '.join(SUITES)}, got {suite!r}")
    places = _find_sets(Path(folder), SUITES[suite])
    return {each.name: (path, each.glip_test if split == "glip" else split) for each, path in places}


def _find_sets(folder: Path, suite: Sequence[str]) -> list[tuple[OdinwSet, Path]]:
    by_name = {each.name: each for each in SETS}
    if unknown := [name for name in suite if name not in by_name]:
        raise ValueError(f"no ODINW set is called {', '.join(unknown)}; there are {', '.join(by_name)}")
    places = [(by_name[name], folder / by_name[name].folder) for name in suite]
    if absent := [each.folder for each, path in places if not path.is_dir()]:
        raise DataError(
            f"{folder}: {len(absent)} of {len(suite)} ODINW sets are not there: {', '.join(absent)}; "
            "fetch them, or leave them out of suite"
        )
    return places


def read_odinw(
    folder: str | os.PathLike,
    split: str = "valid",
    suite: Sequence[str] = ODINW_13,
    on_error: str = "fail",
    renamed: bool = False,
) -> dict[str, DetectionSet]:
    """Read sets of ODINW by name, in the order of `suite`. `split` is "train", "valid" (mmdetection's), "test" or "glip".

    `renamed` gives categories the names that GLIP asks for. Raises DataError for absent sets, all named, and as
    `read_coco` does.
    """
    sets = {}
    for each, path in _find_sets(Path(folder), suite):
        chosen = each.glip_test if split == "glip" else split
        data = read_coco_folder(path, chosen, on_error, name=each.name)
        sets[each.name] = rename_categories(data, RENAMED[each.name]) if renamed and each.name in RENAMED else data
    return sets


def rename_categories(data: DetectionSet, names: Mapping[int, str]) -> DetectionSet:
    """The set with other names for some category ids. Raises DataError if two categories would share one."""
    new = {label: names.get(category_id, label) for label, category_id in data.categories.items()}
    if len(set(new.values())) < len(new):
        raise DataError(f"{data.annotations}: categories cannot be renamed to {sorted(new.values())}; give each its own name")
    records = tuple(replace(record, labels=tuple(new[label] for label in record.labels)) for record in data.records)
    return replace(data, records=records, categories={new[label]: i for label, i in data.categories.items()})
