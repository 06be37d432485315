"""What things are bought for, and for whom: how shoppers say it, and what in a product's text speaks for it.

Written by hand, for made queries alone; what serves shoppers does not read it.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Use:
    """``said`` are phrases after "for", ``before`` words before a type's name, ``evidence`` words of a product's text.

    Evidence is narrow on purpose: where a product has one of the words, it says itself that it suits.
    """

    said: tuple[str, ...]
    before: tuple[str, ...]
    evidence: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Recipient:
    """``said`` names somebody who gets a gift, ``heads`` the last words of names of types that would be one."""

    said: tuple[str, ...]
    heads: tuple[str, ...]


def _use(said: str, before: str, evidence: str) -> Use:
    return Use(tuple(said.split(", ")), tuple(filter(None, before.split(", "))), tuple(evidence.split()))


def _recipient(said: str, heads: str) -> Recipient:
    return Recipient(tuple(said.split(", ")), tuple(heads.split()))


USES = (
    _use("kids, children, my son, my daughter, a 6 year old", "kids, childrens", "kids kid children childrens child"),
    _use("toddlers, my toddler, a 2 year old", "toddler", "toddler toddlers preschool"),
    _use("babies, a newborn, baby", "baby", "baby babies infant infants newborn"),
    _use("women, ladies, her, my wife, my mom", "womens, ladies", "women womens ladies woman"),
    _use("men, him, my husband, my dad", "mens", "men mens man"),
    _use("travel, travelling, trips, flights", "travel", "travel traveler travelers travelling"),
    _use("office, work, the office, office use", "office", "office workplace"),
    _use("school, students, college, back to school", "school, student", "school student students college classroom"),
    _use("gaming, gamers, playing games, pc gaming", "gaming", "gaming gamer gamers"),
    _use("camping, hiking, the outdoors, trekking", "camping", "camping hiking backpacking trekking"),
    _use("running, the gym, workouts, exercise", "gym, sports", "workout workouts gym fitness exercise jogging"),
    _use("car, the car, driving, use in the car", "car", "car vehicle automotive"),
    _use("bike, cycling, my bicycle", "bike", "bike bicycle cycling"),
    _use("kitchen, cooking, the kitchen", "kitchen", "kitchen cooking"),
    _use("bathroom, the bathroom", "bathroom", "bathroom shower"),
    _use("garden, the garden, the yard, patio", "garden", "garden patio yard gardening"),
    _use("dogs, my dog, a puppy", "dog", "dog dogs puppy puppies"),
    _use("cats, my cat, kittens", "cat", "cat cats kitten kittens"),
    _use("wedding, a wedding, the bride", "wedding", "wedding bridal bride"),
    _use("christmas, xmas, the holidays", "christmas", "christmas xmas"),
    _use("halloween, a halloween party", "halloween", "halloween"),
    _use("small business, business use, companies", "business", "business enterprise"),
    _use("home theater, home cinema, watching movies", "home theater", "theater theatre cinema"),
    _use("beginners, a beginner, learning", "beginner", "beginner beginners starter"),
    _use("winter, cold weather", "winter", "winter snow"),
    _use("summer, the beach, hot days", "beach", "summer beach"),
)

#: Words after "for" that say whom a thing suits, or where, and not what other thing it goes with.
AUDIENCES = frozenset(word for use in USES for word in use.evidence)

RECIPIENTS = (
    _recipient("a gamer, my gamer son, gamers", "console headset gamepad joystick game games"),
    _recipient("a photographer, photographers", "camera lens tripod camcorder flash"),
    _recipient("kids, children, a 5 year old, my nephew", "toy doll puzzle game toys games lego plush"),
    _recipient("a music lover, my teenage son", "headphone earphone earbud headset speaker guitar turntable"),
    _recipient("a cook, someone who loves cooking", "blender mixer cookware knife skillet cooker grinder toaster"),
    _recipient("a baker, someone who bakes", "mixer bakeware oven rack"),
    _recipient("a traveller, someone who travels a lot", "luggage suitcase backpack pillow"),
    _recipient("a student, a college student", "laptop notebook tablet backpack calculator"),
    _recipient("a runner, fitness lovers", "smartwatch watch earbud"),
    _recipient("a coffee lover, coffee lovers", "espresso coffee maker mug grinder"),
    _recipient("grandma, my grandmother, grandparents", "frame blanket mug candle slipper"),
    _recipient("her, my wife, my girlfriend, mom", "jewelry necklace earring bracelet perfume handbag purse"),
    _recipient("him, my husband, my boyfriend, dad", "razor shaver wallet watch grill drill"),
)  # fmt: skip

#: Words of types' names that make a poor gift of what would please otherwise: a security camera, an office chair.
NO_GIFT = frozenset({"security", "surveillance", "cctv", "office", "industrial", "server", "replacement", "spare"})
#: Names that end so gather what lies below them in a tree of types, however it is called.
GATHERING = ("accessory", "appliance", "equipment", "supply", "furniture", "product", "device", "tool", "electronics")
