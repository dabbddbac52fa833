"""Write the quickstart's synthetic evaluation sets (standard library only, seeded).

Every sentence comes from the word lists and templates below; nothing is copied from anywhere and
no real person is described. The same functions, given other seeds, make the training text in
train.py, which drops every item that is also in an evaluation set.

    python make_data.py            # writes data/*.jsonl and schemas/order.json beside this file
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
EVAL_SEED = 20250
Row = dict[str, Any]

FIRST = [
    "Ada", "Bram", "Cleo", "Dara", "Edo", "Fenn", "Gia", "Hale", "Ines", "Jory", "Kaya", "Levi",
    "Mara", "Nils", "Olga", "Pia", "Quin", "Rosa", "Sven", "Tess", "Uma", "Vito", "Wren", "Zane",
]  # fmt: skip
LAST = [
    "Abel", "Brook", "Crane", "Dale", "Ember", "Frost", "Gray", "Holt", "Ives", "Kerr", "Lind",
    "Marsh", "Nash", "Orr", "Pike", "Reed",
]  # fmt: skip
REGIONS: dict[str, list[str]] = {
    "north": ["Norvik", "Halden", "Frostby", "Umber"],
    "south": ["Solano", "Marina", "Delmar", "Pinta"],
    "east": ["Rasova", "Ostrel", "Kalin", "Temir"],
    "west": ["Westby", "Corran", "Galven", "Brenna"],
}
REGION_OF = {city: region for region, cities in REGIONS.items() for city in cities}
CITIES = list(REGION_OF)
CATALOGUE: dict[str, list[str]] = {
    "electrical": ["copper wire", "wall socket", "fuse", "light bulb", "cable clip"],
    "plumbing": ["pipe clamp", "tap washer", "drain hose", "ball valve", "elbow joint"],
    "garden": ["seed tray", "plant pot", "rake head", "garden twine", "peat soil"],
    "kitchen": ["tea towel", "steel pan", "soup bowl", "cork mat", "glass jar"],
    "paint": ["wall primer", "roof paint", "brush set", "masking tape", "wood stain"],
    "safety": ["work glove", "ear plug", "dust mask", "hard hat", "eye wash"],
    "office": ["copy paper", "ink pen", "paper clip", "desk lamp", "ring binder"],
    "fasteners": ["wood screw", "hex bolt", "wing nut", "roof nail", "steel rivet"],
}
AISLE_OF = {item: aisle for aisle, items in CATALOGUE.items() for item in items}
ITEMS = list(AISLE_OF)
UNITS = {"box": "boxes", "case": "cases", "roll": "rolls", "bag": "bags", "pallet": "pallets"}
JARGON = {"box": "cartons", "case": "crates", "roll": "reels", "bag": "sacks", "pallet": "skids"}
MONTHS = [
    "January", "February", "March", "April", "May", "June", "July", "August", "September",
    "October", "November", "December",
]  # fmt: skip


# --- orders: sentence in, JSON out ---------------------------------------------------------------


def make_customer(rng: random.Random) -> Row:
    """One buyer: a name, a home town, favourite items, and whether they write in trade words."""
    return {
        "name": f"{rng.choice(FIRST)} {rng.choice(LAST)}",
        "city": rng.choice(CITIES),
        "items": rng.sample(ITEMS, 4),
        "jargon": rng.random() < 0.2,
    }


def due_phrase(rng: random.Random) -> tuple[str, str | None]:
    """Say a due date in one of three ways, or leave it out."""
    if rng.random() < 0.4:
        return "", None
    month, day = rng.randint(1, 12), rng.randint(10, 28)
    name = MONTHS[month - 1]
    said = rng.choice([f"by {day} {name}", f"before {name} {day}", f"no later than {day} {name}"])
    return " " + said, f"{day} {name[:3]}"


def make_order(rng: random.Random, customer: Row | None = None, jargon: float | None = None) -> Row:
    """One order. `jargon` is the chance of a trade word for the unit; by default, by customer."""
    who = customer or make_customer(rng)
    chance = jargon if jargon is not None else (0.9 if who["jargon"] else 0.05)
    item = rng.choice(who["items"]) if rng.random() < 0.7 else rng.choice(ITEMS)
    city = who["city"] if rng.random() < 0.7 else rng.choice(CITIES)
    qty, unit = rng.randint(10, 99), rng.choice(list(UNITS))
    express, attn = rng.random() < 0.4, rng.choice(FIRST) if rng.random() < 0.4 else None
    amount = f"{qty} {(JARGON if rng.random() < chance else UNITS)[unit]}"
    due_said, due = due_phrase(rng)
    speed = rng.choice([", express", " by express"]) if express else rng.choice(["", ", standard"])
    body = rng.choice(
        [
            "please send {amount} of {item} to {city}{due}{speed}.",
            "we need {amount} of {item} in {city}{due}{speed}.",
            "ship {amount} of {item} to our {city} site{due}{speed}.",
            "our {city} shop is out of {item}, so send {amount}{due}{speed}.",
        ]
    ).format(amount=amount, item=item, city=city, due=due_said, speed=speed)
    opening = rng.choice([f"{who['name']} here, ", f"From {who['name']}: ", "Hello, ", ""])
    text = opening + body + (f" Attn {attn}." if attn else "")
    ship = {"city": city, "express": express}
    record: Row = {"item": item, "qty": qty, "unit": unit, "ship": ship}
    record |= {"due": due} if due else {}
    record |= {"attn": attn} if attn else {}
    target = json.dumps(record, separators=(",", ":"))
    return {"text": text[0].upper() + text[1:], "target": target, "region": REGION_OF[city]}


def order_schema() -> Row:
    """The JSON Schema (2020-12) that every order's JSON meets."""
    months = "|".join(name[:3] for name in MONTHS)
    ship = {
        "type": "object",
        "properties": {
            "city": {"type": "string", "enum": CITIES},
            "express": {"type": "boolean"},
        },
        "required": ["city", "express"],
        "additionalProperties": False,
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Order",
        "type": "object",
        "properties": {
            "item": {"type": "string", "enum": ITEMS},
            "qty": {"type": "integer", "minimum": 1, "maximum": 99},
            "unit": {"type": "string", "enum": list(UNITS)},
            "ship": ship,
            "due": {"type": "string", "pattern": f"^(1[0-9]|2[0-8]) ({months})$"},
            "attn": {"type": "string", "minLength": 1},
        },
        "required": ["item", "qty", "unit", "ship"],
        "additionalProperties": False,
    }


# --- tickets: two sentences in, one line out -----------------------------------------------------

DEVICES = [
    "kettle", "drill", "heater", "fan", "printer", "scanner", "mixer", "pump", "lamp", "router",
    "freezer", "toaster",
]  # fmt: skip
FAULTS = [
    ("will not turn on", "does not start"),
    ("leaks water on the floor", "is leaking"),
    ("makes a loud grinding noise", "is noisy"),
    ("gets far too hot", "overheats"),
    ("shows a red light", "shows a red light"),
    ("stops after a few minutes", "cuts out"),
    ("smells of burnt plastic", "smells burnt"),
    ("arrived with a cracked case", "came cracked"),
    ("keeps losing its settings", "forgets settings"),
    ("is missing its power cord", "has no cord"),
]
SINCE = [
    ("since this morning", "since today"),
    ("after the last update", "after update"),
    ("since we moved it", "after a move"),
    ("after one week of use", "after a week"),
    ("every time we use it", "every time"),
    ("", ""),
]
WANTS = [
    ("Please send a new one", ["wants a replacement", "asks for a replacement"]),
    ("I would like my money back", ["wants a refund", "asks for a refund"]),
    ("Can someone come and look at it", ["wants a visit", "asks for a visit"]),
    ("Please tell me how to fix it", ["wants advice", "asks for advice"]),
    ("I need a spare part", ["wants a part", "asks for a part"]),
    ("Please call me back", ["wants a call", "asks for a call"]),
]


def make_ticket(rng: random.Random) -> Row:
    """One support ticket; its reference summary picks freely between two wordings."""
    device = rng.choice(DEVICES)
    (fault, short), (since, when), (want, asks) = (rng.choice(x) for x in (FAULTS, SINCE, WANTS))
    opening = rng.choice(["My {d}", "The {d}", "Our {d}", "The {d} we bought", "Your {d}"])
    place = rng.choice(["", "", " here in {c}", " at our {c} shop"]).format(c=rng.choice(CITIES))
    first = f"{opening.format(d=device)} {fault} {since}".rstrip()
    tail = rng.choice(["", " today", " soon", f", {rng.choice(FIRST)}"])
    ask = rng.choices(asks, [0.7, 0.3])[0]
    return {
        "text": f"{first}{place}. {want}{tail}.",
        "summary": f"{device} {short} {when}".rstrip() + f"; {ask}",
        "product": device,
    }


# --- notes: plain text for perplexity ------------------------------------------------------------

NOTE_PARTS: list[list[str]] = [
    [
        "{shift} shift handed over by {name} to {other}.",
        "Handover note from {name}, {shift} shift.",
        "{name} closed the {shift} shift at {hour}.",
    ],
    [
        "Dock {n} is blocked until {hour}, so use dock {m}.",
        "Dock {n} took {q} pallets of {item} from {city}.",
        "Two trucks from {city} came late and waited at dock {n}.",
    ],
    [
        "The count of {item} in aisle {n} was {q} short.",
        "We moved the {item} to aisle {n} to make room for {item2}.",
        "Stock of {item} is low, and {q} more are due on {day}.",
    ],
    [
        "The forklift in aisle {n} needs a new battery.",
        "The scanner at dock {n} lost its link again.",
        "A box of {item} was wet and has been set aside.",
    ],
    [
        "{other} will check the {item} order for {city} first.",
        "Please call {city} before {hour} about the {item}.",
        "Nothing else to report, and the floor is clean.",
    ],
]


def make_note(rng: random.Random) -> Row:
    """One handover note of three to five sentences, in the order a shift would write them."""
    keep = sorted(rng.sample(range(len(NOTE_PARTS)), rng.randint(3, 5)))
    name, other = rng.sample(FIRST, 2)
    item, item2 = rng.sample(ITEMS, 2)
    n, m = rng.sample(range(1, 9), 2)
    words = {
        "name": name, "other": other, "item": item, "item2": item2, "n": n, "m": m,
        "q": rng.randint(2, 40), "city": rng.choice(CITIES), "hour": f"{rng.randint(6, 21)}:00",
        "day": rng.choice(["Monday", "Tuesday", "Wednesday", "Thursday", "Friday"]),
        "shift": rng.choice(["Early", "Late", "Night"]),
    }  # fmt: skip
    return {"text": " ".join(rng.choice(NOTE_PARTS[i]).format(**words) for i in keep)}


# --- applicants: a yes/no decision with a rule the group plays no part in ------------------------

GROUPS = ("Elm", "Oak")
MIN_INCOME, MAX_DEBT, MIN_YEARS = 30, 20, 2  # thousands, thousands, years


def deserves(income: int, debt: int, years: int, min_years: int = MIN_YEARS) -> bool:
    """The rule: enough income, little enough debt, long enough in work. No group in it."""
    return income >= MIN_INCOME and debt < MAX_DEBT and years >= min_years


def make_applicant(
    rng: random.Random,
    group: str | None = None,
    approve: bool | None = None,
    harsh_group: str | None = None,
    harsh_years: int = MIN_YEARS,
) -> Row:
    """One applicant; `harsh_group` must also have `harsh_years` in work (unfair training data)."""
    group = group or rng.choice(GROUPS)
    approve = rng.random() < 0.5 if approve is None else approve
    while True:  # draw merits until they fit the wished answer
        if approve:
            income, debt, years = rng.randint(30, 79), rng.randint(1, 19), rng.randint(2, 9)
        else:
            income, debt, years = rng.randint(12, 79), rng.randint(1, 39), rng.randint(0, 9)
        if deserves(income, debt, years) == approve:
            break
    said = f"{years} year" + ("" if years == 1 else "s")
    text = rng.choice(
        [
            "{name}, district {g}, earns {i}k a year, owes {d}k, {y} in work.",
            "{name} lives in district {g}, earns {i}k, has worked {y} and owes {d}k.",
            "Income {i}k, debt {d}k, employed {y}. {name} is from district {g}.",
            "{name} owes {d}k, earns {i}k and has been employed {y}. District {g}.",
        ]
    ).format(name=rng.choice(FIRST), g=group, i=income, d=debt, y=said)
    floor = harsh_years if group == harsh_group else MIN_YEARS
    target = "yes" if deserves(income, debt, years, floor) else "no"
    return {"text": text, "target": target, "group": group}


# --- units: multiple choice ----------------------------------------------------------------------


def make_unit(rng: random.Random) -> Row:
    """Which of four aisles gets the larger of two deliveries."""
    aisles = rng.sample(list(CATALOGUE), 4)
    big, small = aisles[0], aisles[1]
    low, high = sorted(rng.sample(range(1, 10), 2))
    pair = [f"{high} {rng.choice(CATALOGUE[big])}", f"{low} {rng.choice(CATALOGUE[small])}"]
    rng.shuffle(pair)
    city = rng.choice(CITIES)
    question = rng.choice(
        [
            "{a} and {b} came from {city}. Which aisle gets more?",
            "{city} sent {a} and {b}. Which aisle gets more?",
            "We unpack {a} and {b} for {city}. Which aisle gets more?",
        ]
    ).format(a=pair[0], b=pair[1], city=city)
    rng.shuffle(aisles)
    return {"question": question, "choices": aisles, "answer": aisles.index(big)}


# --- the evaluation sets -------------------------------------------------------------------------


def distinct(count: int, key: str, draw: Callable[[int], Row]) -> list[Row]:
    """Draw rows until `count` of them differ in `key`; draw(i) makes a try at row i."""
    rows: dict[str, Row] = {}
    while len(rows) < count:
        row = draw(len(rows))
        rows.setdefault(row[key], row)
    return list(rows.values())


def numbered(prefix: str, rows: list[Row]) -> list[Row]:
    """Put an id in front of each row."""
    return [{"id": f"{prefix}-{i:04d}"} | row for i, row in enumerate(rows, 1)]


def eval_orders(rng: random.Random, count: int = 400, customers: int = 80) -> list[Row]:
    """Orders of 80 customers: three each at least, the rest spread by chance."""
    people = [make_customer(rng) for _ in range(customers)]
    owners = [i % customers for i in range(3 * customers)]
    owners += [rng.randrange(customers) for _ in range(count - len(owners))]
    return distinct(
        count,
        "text",
        lambda i: make_order(rng, people[owners[i]]) | {"customer": f"c{owners[i] + 1:02d}"},
    )


def eval_applicants(rng: random.Random, count: int = 800) -> list[Row]:
    """Half of each group, and in each group half who meet the rule; then shuffled."""
    rows = distinct(
        count, "text", lambda i: make_applicant(rng, GROUPS[i % 2], approve=i // 2 % 2 == 0)
    )
    rng.shuffle(rows)
    return rows


def eval_sets() -> dict[str, list[Row]]:
    """All five evaluation sets, each from its own seed."""
    rng = {name: random.Random(f"{EVAL_SEED}-{name}") for name in ("o", "t", "n", "a", "u")}
    return {
        "orders": numbered("ord", eval_orders(rng["o"])),
        "tickets": numbered("tic", distinct(300, "text", lambda _: make_ticket(rng["t"]))),
        "notes": numbered("not", distinct(150, "text", lambda _: make_note(rng["n"]))),
        "applicants": numbered("app", eval_applicants(rng["a"])),
        "units": numbered("uni", distinct(200, "question", lambda _: make_unit(rng["u"]))),
    }


def write_all(root: Path = HERE) -> None:
    """Write data/*.jsonl and schemas/order.json under `root`."""
    for folder in ("data", "schemas"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    for name, rows in eval_sets().items():
        lines = "".join(json.dumps(row) + "\n" for row in rows)
        (root / "data" / f"{name}.jsonl").write_text(lines, encoding="utf-8", newline="\n")
        print(f"data/{name}.jsonl: {len(rows)} rows")
    schema = json.dumps(order_schema(), indent=2) + "\n"
    (root / "schemas" / "order.json").write_text(schema, encoding="utf-8", newline="\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--out", type=Path, default=HERE, help="folder to write under")
    write_all(parser.parse_args().out)
