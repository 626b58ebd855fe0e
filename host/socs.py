"""Systems on chip that a device can be named after: SOCS, one line each.

A table line is a name and a hint: which processors are fast is read from the phone itself.

Sources: soc_id from Linux ``dt-bindings/arm/qcom,ids.h``; platforms and models from vendors' ``init`` scripts and the
devices lists of LiteRT; Hexagon versions from TFLite's Hexagon delegate and Qualcomm's QNN SDK; QNN is its soc_model.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Soc:
    """One chip.

    Attributes:
        models: what the phone calls it, such as SM8550.
        platforms: values of ro.board.platform; several chips may share one.
        soc_ids: of /sys/devices/soc0/soc_id, exact.
        hexagon: version of its Hexagon DSP or NPU; None where it has none.
        qnn: Qualcomm's number of it; None where QNN does not know it.
        big_cpus: all but the slowest cluster, as the vendor numbers them; empty where sources disagree.
    """

    name: str
    models: tuple[str, ...]
    platforms: tuple[str, ...]
    soc_ids: tuple[int, ...] = ()
    hexagon: str | None = None
    qnn: int | None = None
    big_cpus: tuple[int, ...] = ()


def _cpus(first: int, last: int) -> tuple[int, ...]:
    return tuple(range(first, last + 1))


_4_TO_7 = _cpus(4, 7)
_6_TO_7 = _cpus(6, 7)

SOCS = (
    Soc("snapdragon820", ("MSM8996",), ("msm8996",), (246, 305, 291, 310, 311, 312), "v60", None, (2, 3)),
    Soc("snapdragon630", ("SDM630",), ("sdm630", "sdm660"), (318, 327), "v60"),
    Soc("snapdragon636", ("SDM636",), ("sdm636", "sdm660"), (345, 346), "v60"),
    Soc("snapdragon660", ("SDM660",), ("sdm660",), (317, 324, 325, 326), "v60", None, _4_TO_7),
    Soc("snapdragon835", ("MSM8998", "APQ8098"), ("msm8998",), (292, 319), "v62", 2, _4_TO_7),
    Soc("snapdragon845", ("SDM845",), ("sdm845",), (321, 341), "v65", 1, _4_TO_7),
    Soc("snapdragon710", ("SDM710", "SDM670"), ("sdm710", "sdm670"), (336, 337, 347, 360, 393), "v65", None, _6_TO_7),
    Soc("snapdragon675", ("SM6150",), ("sm6150",), (355,), "v66", None, _6_TO_7),
    Soc("snapdragon730", ("SM7150",), ("sm6150", "sdmmagpie"), (365, 366), "v65", None, _6_TO_7),
    Soc("snapdragon855", ("SM8150",), ("msmnile",), (339, 362, 367), "v66", 12, _4_TO_7),
    Soc("snapdragon765", ("SM7250",), ("lito",), (400,), "v66", None, _6_TO_7),
    Soc("snapdragon690", ("SM6350",), ("lito", "lagoon"), (434,), "v66", None, _6_TO_7),
    Soc("snapdragon865", ("SM8250",), ("kona",), (356,), "v66", 21, _4_TO_7),
    Soc("snapdragon778", ("SM7325",), ("lahaina", "yupik"), (475, 499, 515), "v68", None, _4_TO_7),
    Soc("snapdragon780", ("SM7350",), ("lahaina", "shima"), (450,), "v68", None, _4_TO_7),
    Soc("snapdragon888", ("SM8350",), ("lahaina",), (415, 439, 456, 501, 502), "v68", 30, _4_TO_7),
    Soc("snapdragon8gen1", ("SM8450",), ("taro",), (457, 480, 482, 552), "v69", 36, _4_TO_7),
    Soc("snapdragon8+gen1", ("SM8475",), ("taro", "cape"), (530, 531, 540), "v69", 42, _4_TO_7),
    Soc("snapdragon7gen1", ("SM7450",), ("diwali",), (506, 547, 564), "v69"),
    Soc("snapdragon7+gen2", ("SM7475",), ("taro", "ukee"), (591,), "v69", None, _4_TO_7),
    Soc("snapdragon8gen2", ("SM8550",), ("kalama",), (519, 536, 600, 601), "v73", 43, _cpus(3, 7)),
    Soc("snapdragon8gen3", ("SM8650",), ("pineapple",), (557, 577), "v75", 57, _cpus(2, 7)),
    Soc("snapdragon8sgen3", ("SM8635",), ("cliffs", "pineapple"), (614, 642), "v73"),
    Soc("snapdragon7+gen3", ("SM7675",), ("cliffs",), (632, 643), "v73"),
    Soc("snapdragon7gen3", ("SM7550",), ("crow",), (608,), "v73"),
    Soc("snapdragon8elite", ("SM8750",), ("sun",), (618, 639), "v79", 69, _6_TO_7),
    Soc("snapdragon8sgen4", ("SM8735",), ("tuna",), (655, 681, 694)),
    Soc("snapdragon7gen4", ("SM7750",), ("kera",), (659, 686)),
    Soc("snapdragon8elitegen5", ("SM8850",), ("canoe",), (660, 661, 704, 743), "v81", 87),
    Soc("snapdragon8gen5", ("SM8845",), ("alor",), (685, 727, 764), "v81", 97),
    Soc("snapdragon6gen1", ("SM6450",), ("parrot",), (537, 583)),
    Soc("snapdragon6gen4", ("SM6650",), ("volcano",), (640, 641)),
    Soc("snapdragon7sgen2", ("SM7435",), ("parrot",), (613,), "v73"),
    Soc("snapdragon7sgen3", ("SM7635",), ("volcano",), (636,)),
    Soc("snapdragon480", ("SM4350",), ("holi",), (454,)),
    Soc("snapdragon4gen2", ("SM4450",), ("ravelin",), (568, 602)),
    Soc("snapdragon4sgen2", ("SM4635",), ("pitti",), (623,)),
    Soc("snapdragon695", ("SM6375",), ("blair",), (507, 565)),
    Soc("snapdragon665", ("SM6125",), ("trinket",), (394,), "v66"),
    Soc("tensorg1", ("Tensor", "GS101"), ("gs101",), big_cpus=_4_TO_7),
    Soc("tensorg2", ("Tensor G2", "GS201"), ("gs201",)),
    Soc("tensorg3", ("Tensor G3", "GS301"), ("zuma",)),
    Soc("tensorg4", ("Tensor G4",), ("zumapro",), big_cpus=_4_TO_7),
    Soc("tensorg5", ("Tensor G5",), ("laguna",)),
    Soc("exynos8895", ("Exynos 8895",), ("exynos8895", "universal8895")),
    Soc("exynos9810", ("Exynos 9810",), ("exynos9810", "universal9810"), big_cpus=_4_TO_7),
    Soc("exynos9820", ("Exynos 9820",), ("exynos9820", "universal9820")),
    Soc("exynos9825", ("Exynos 9825",), ("exynos9825", "universal9825")),
    Soc("exynos990", ("Exynos 990",), ("exynos990", "universal990"), big_cpus=_4_TO_7),
    Soc("exynos2100", ("Exynos 2100",), ("exynos2100", "universal2100")),
    Soc("exynos2200", ("s5e9925",), ("s5e9925", "erd9925"), big_cpus=_4_TO_7),
    Soc("exynos2400", ("s5e9945",), ("s5e9945", "erd9945")),
    Soc("exynos1380", ("s5e8835",), ("s5e8835",)),
    Soc("dimensity700", ("MT6833",), ("mt6833",)),
    Soc("dimensity720", ("MT6853",), ("mt6853",)),
    Soc("dimensity800", ("MT6873",), ("mt6873",)),
    Soc("dimensity900", ("MT6877",), ("mt6877",)),
    Soc("dimensity930", ("MT6855",), ("mt6855",)),
    Soc("dimensity1000", ("MT6889", "MT6885"), ("mt6889", "mt6885")),
    Soc("dimensity1050", ("MT6879",), ("mt6879",)),
    Soc("dimensity1100", ("MT6891",), ("mt6891",)),
    Soc("dimensity1200", ("MT6893",), ("mt6893",)),
    Soc("dimensity8100", ("MT6895",), ("mt6895",)),
    Soc("dimensity8300", ("MT6897",), ("mt6897",)),
    Soc("dimensity9000", ("MT6983",), ("mt6983",)),
    Soc("dimensity9200", ("MT6985",), ("mt6985",)),
    Soc("dimensity9300", ("MT6989",), ("mt6989",)),
    Soc("dimensity9400", ("MT6991",), ("mt6991",)),
    Soc("dimensity9500", ("MT6993",), ("mt6993",)),
)


ALSO = {
    "snapdragon821": "snapdragon820",
    "snapdragon670": "snapdragon710",
    "snapdragon732": "snapdragon730",
    "snapdragon870": "snapdragon865",
    "dimensity800u": "dimensity720",
    "dimensity810": "dimensity700",
    "dimensity920": "dimensity900",
    "dimensity1000l": "dimensity1000",
    "dimensity1080": "dimensity900",
    "dimensity8200": "dimensity8100",
}
"""Names of chips that no phone tells from one of the table: it is sold under both."""


def soc_named(name: str) -> Soc | None:
    """The chip of that name, or of a model name such as SM8550."""
    asked = ALSO.get(name.lower(), name.lower())
    return next((soc for soc in SOCS if asked in (soc.name, *map(str.lower, soc.models))), None)
