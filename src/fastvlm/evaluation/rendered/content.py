"""What rendered documents say: invented shops, people, goods, numbers and sentences, just as they will be printed."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from textwrap import wrap

MAX_RECEIPT_LINES = 10
MAX_PAGE_LINES = 6


def _choices(text: str) -> list[str]:
    return text.split(",")


_FIRST_NAMES = _choices(
    "Orla,Bram,Tilda,Casper,Maeve,Anselm,Petra,Rufus,Greta,Edmund,Saskia,Ivo,Linnea,Hamish,Odette,Felix,"
    "Ramona,Tobias,Wilma,Jonas,Elspeth,Marek,Agnes,Dario,Beatrix,Silas,Noor,Kofi,Yara,Emeka"
)
_SURNAMES = _choices(
    "Tennick,Varley,Osgrove,Pemble,Hartwick,Dunmore,Selby,Quarrie,Ashdown,Fenwright,Lorrimer,Brisco,"
    "Castell,Wetherley,Oakes,Marchbank,Tolland,Rusk,Everill,Nightley,Crowther,Isham,Palk,Gedney"
)
_TOWNS = _choices(
    "Wexbury,Harlow Cross,Port Ellery,Dunsford,Millbrook,Thornby,Eastmere,Calder Bay,Lynwick,Oakhaven,Stonebridge,"
    "Farleigh,Redmoor,Ashcombe,Wynford,Sandrick"
)
_STREETS = _choices(
    "Tanner Row,Alder Lane,Mill Street,Quay Road,Chapel Hill,Orchard Way,Foundry Lane,High Street,Station Road,"
    "Garden Walk,Larch Avenue,Market Place,Heron Close,Bridge Street,Kiln Road,Vicar Lane"
)
_SHOP_STARTS = _choices(
    "Copper,Willow,Blue Door,Corner,Maple,Harbour,Old Mill,Silver,Juniper,Fox & Fern,Lantern,North Gate,Bramble,"
    "Clover,Riverside,Three Oaks,Sunny Side,Pebble"
)
_GOODS_OF_SHOPS = {
    "Bakery": "Rye Loaf,Plum Tart,Poppy Roll,Cheese Scone,Almond Bun,Oat Biscuit,Seed Baguette,Lemon Slice,Fig Bread",
    "Cafe": "Flat White,Mint Tea,Carrot Cake,Egg Muffin,Hot Cocoa,Lentil Soup,Iced Latte,Fruit Bowl,Toastie,Espresso",
    "Grocer": "Leeks,Brown Rice,Tomatoes,Olive Oil,Butter,Honey,Eggs,Oranges,Spinach,Red Lentils,Yoghurt,Peanuts",
    "Hardware": "Hammer,Wood Glue,Paint Brush,Door Hinge,Sandpaper,Tape,Hose Clip,Light Bulb,Padlock,Screws,Ladder",
    "Books": "Notebook,Wall Map,Fountain Pen,Atlas,Poetry Book,Gift Card,Bookmark,Cook Book,Desk Diary,Ink Bottle",
    "Garden": "Rose Bush,Clay Pot,Potting Soil,Trowel,Bird Feeder,Tulip Bulbs,Garden Twine,Fern,Moss Lawn Seed",
    "Pharmacy": "Cough Syrup,Plasters,Hand Cream,Toothpaste,Sun Lotion,Cotton Pads,Vitamin C,Soap Bar,Nasal Spray",
    "Kitchen": "Ladle,Tea Towel,Cake Tin,Bread Knife,Soup Bowl,Whisk,Pepper Mill,Apron,Egg Timer,Mixing Jug",
}
_SHOP_FORMS = {
    "Grocer": ("Grocer", "Market", "Foods"),
    "Hardware": ("Hardware", "Tools"),
    "Garden": ("Garden Centre", "Plants"),
    "Kitchen": ("Kitchenware", "Homestore"),
}
_MONTHS = _choices("January,February,March,April,May,June,July,August,September,October,November,December")


@dataclass(frozen=True)
class ReceiptItem:
    """One thing that was bought; amount: of the whole line, as printed."""

    thing: str
    quantity: int
    amount: str
    cents: int


@dataclass(frozen=True)
class Receipt:
    """A receipt's words; what is None is not printed. sums: label and amount of each line between goods and total."""

    shop: str
    address: str | None
    phone: str | None
    date: str | None
    time: str | None
    number: str | None
    items: tuple[ReceiptItem, ...]
    shows_quantities: bool
    sums: tuple[tuple[str, str], ...]
    total_label: str
    total: str
    payment: str | None
    tendered: str | None
    change: str | None
    thanks: str | None


@dataclass(frozen=True)
class Form:
    """A form's words. fields: key and what is filled in, which may be nothing. ticks: label, and whether it is set."""

    title: str | None
    fields: tuple[tuple[str, str], ...]
    ticks: tuple[tuple[str, bool], ...]
    absent_keys: tuple[str, ...]


@dataclass(frozen=True)
class Table:
    """A table's words and numbers. cells: by row, one for each column, as printed; numbers: the same as numbers."""

    title: str | None
    corner: str
    columns: tuple[str, ...]
    rows: tuple[str, ...]
    cells: tuple[tuple[str, ...], ...]
    numbers: tuple[tuple[float, ...], ...]
    absent_row: str


@dataclass(frozen=True)
class Page:
    """A page's words. lines: as they are broken; num_first: how many of them stand before a gap, if any does."""

    heading: str | None
    lines: tuple[str, ...]
    num_first: int
    is_list: bool
    absent_words: tuple[str, ...]


def invent_receipt(rng: Random) -> Receipt:
    """Goods with amounts that add up, and as much around them as fits on ten lines."""
    kind = rng.choice(sorted(_GOODS_OF_SHOPS))
    symbol = rng.choice(("$", "$", "£", "€", ""))
    item_symbol = rng.choice((symbol, ""))
    has_quantities = rng.random() < 0.5
    items = tuple(
        _bought(thing, has_quantities, item_symbol, rng)
        for thing in rng.sample(_choices(_GOODS_OF_SHOPS[kind]), rng.randint(2, 4))
    )
    shown = _shown_parts(MAX_RECEIPT_LINES - 2 - len(items), rng)

    subtotal = sum(item.cents for item in items)
    rate = rng.choice((5, 6, 8, 10, 20))
    tax = round(subtotal * rate / 100)
    tax_label = rng.choice((f"Tax {rate}%", f"VAT {rate}%", "Sales tax", "Tax"))
    sums = (("Subtotal", _money(subtotal, item_symbol)), (tax_label, _money(tax, item_symbol)))
    total = subtotal + tax if "tax" in shown else subtotal
    note = rng.choice((500, 1000, 2000))
    tendered = (total // note + 1) * note
    payment = rng.choice(("CASH", "Cash") if "change" in shown else ("CASH", "Cash", "CARD", "Card", "Voucher"))
    number = rng.choice((str(rng.randint(1000, 9999)), f"{rng.randint(0, 99999):06d}", f"K-{rng.randint(100, 9999)}"))

    def where(part: str, text: str) -> str | None:
        return text if part in shown else None

    return Receipt(
        shop=f"{rng.choice(_SHOP_STARTS)} {rng.choice(_SHOP_FORMS.get(kind, (kind,)))}",
        address=where("address", f"{rng.randint(2, 198)} {rng.choice(_STREETS)}, {rng.choice(_TOWNS)}"),
        phone=where("phone", _phone(rng)),
        date=where("date", invent_date(rng)),
        time=where("time", f"{rng.randint(7, 21):02d}:{rng.randint(0, 59):02d}"),
        number=where("number", number),
        items=items,
        shows_quantities=has_quantities,
        sums=sums if "tax" in shown else (),
        total_label=rng.choice(("TOTAL", "Total", "Total due", "AMOUNT DUE", "To pay")),
        total=_money(total, symbol),
        payment=where("payment", payment),
        tendered=where("change", _money(tendered, symbol)),
        change=where("change", _money(tendered - total, symbol)),
        thanks=where("thanks", rng.choice(("Thank you!", "See you soon", "Have a nice day"))),
    )


def _bought(thing: str, has_quantities: bool, symbol: str, rng: Random) -> ReceiptItem:
    quantity = rng.choice((1, 1, 2, 2, 3, 4, 6)) if has_quantities else 1
    cents = quantity * (rng.randint(70, 1400) // 5 * 5 + rng.choice((0, 0, 4)))
    return ReceiptItem(thing, quantity, _money(cents, symbol), cents)


def _shown_parts(spare_lines: int, rng: Random) -> frozenset[str]:
    """Which parts a receipt has beside shop, goods and total; date and time share a line."""
    groups = [["address"], ["phone"], ["date", "time"], ["date"], ["number"], ["tax", ""], ["payment"], ["payment"]]
    groups += [["time"], ["change", "payment"]] if rng.random() < 0.4 else []
    shown: set[str] = set()
    for group in rng.sample(groups, rng.randint(4, len(groups))):
        num_lines = 1 if group == ["date", "time"] else len(group)
        if num_lines <= spare_lines and not shown.intersection(group):
            shown.update(group)
            spare_lines -= num_lines
    if spare_lines >= 1 and rng.random() < 0.5:
        shown.add("thanks")
    return frozenset(shown)


def invent_date(rng: Random, style: int | None = None, *, first_year: int = 2017, last_year: int = 2026) -> str:
    """A date in one of four everyday styles."""
    day, month, year = rng.randint(1, 28), rng.randint(1, 12), rng.randint(first_year, last_year)
    name = _MONTHS[month - 1]
    styles = (f"{day} {name} {year}", f"{year}-{month:02d}-{day:02d}", f"{day:02d}/{month:02d}/{year}",
              f"{name[:3]} {day}, {year}")  # fmt: skip
    return styles[rng.randrange(4) if style is None else style]


def _phone(rng: Random) -> str:
    groups = (rng.randint(10, 99), rng.randint(100, 999), rng.randint(100, 999), rng.randint(1000, 9999))
    return rng.choice(("0{0} {1} {2}", "(0{0}) {3}", "{1}-{3}", "0{0}-{1}{2}")).format(*groups)


def _money(cents: int, symbol: str) -> str:
    return f"{symbol}{cents // 100:,}.{cents % 100:02d}"


_FORMS: tuple[tuple[str, str, str], ...] = (
    ("Library Card,Library Membership,Reader Registration", "Full name,Street,Town,Phone,Date of birth,Occupation,"
     "Card no.", "New reader,Student,Newsletter,Large print"),
    ("Guest Registration,Hotel Check-in", "Guest name,Arrival,Nights,Guests,Room no.,Country,Phone",
     "Breakfast,Parking,Late checkout,Extra bed"),
    ("Pet Registration,Vet Intake Form", "Owner,Pet name,Species,Colour,Age,Weight,Phone",
     "Vaccinated,Microchip,Insured,Indoor"),
    ("School Trip Consent,Trip Permission", "Pupil,Class,Teacher,Destination,Trip date,Parent,Phone",
     "Packed lunch,Can swim,Allergies,Photos allowed"),
    ("Repair Order,Workshop Ticket", "Customer,Device,Serial no.,Fault,Received,Quote,Technician",
     "Warranty,Urgent,Deposit paid,Call first"),
    ("Parcel Slip,Shipping Form", "Sender,Recipient,Destination,Parcel weight,Tracking no.,Contents,Shipped",
     "Fragile,Insured,Gift,Signature"),
    ("Job Application,Staff Record", "Applicant,Position,Town,Phone,Start date,Language,Degree",
     "Full time,Driver,Night shifts,References"),
    ("Bike Rental,Rental Agreement", "Renter,Bike no.,Pick-up,Days,Deposit,Frame size,Phone",
     "Helmet,Lock,Child seat,Basket"),
    ("Course Enrolment,Evening Class", "Student,Course,Tutor,Start date,Room no.,Fee,Phone",
     "Beginner,Paid,Certificate,Online"),
)  # fmt: skip
_CHOICES_OF_KEYS = {
    "Occupation": "Carpenter,Nurse,Baker,Surveyor,Teacher,Welder,Florist,Clerk",
    "Country": "Norway,Portugal,Canada,Kenya,Japan,Chile,Ireland,Poland",
    "Species": "Cat,Dog,Rabbit,Parrot,Hamster,Tortoise",
    "Colour": "Grey,Brown,Black,Ginger,White,Cream",
    "Pet name": "Biscuit,Pickle,Moss,Waffle,Juno,Bramble,Otto,Tansy",
    "Class": "3A,4B,5C,6A,7D,8B",
    "Destination": "City Museum,Lake Farm,Castle Hill,Science Park,Zoo,Pebble Beach",
    "Device": "Laptop,Toaster,Camera,Record player,Vacuum,Printer",
    "Fault": "No power,Loose cable,Cracked lid,Noisy fan,Blank screen",
    "Contents": "Books,Glassware,Tea set,Shoes,Clothing,Spare parts",
    "Position": "Cook,Cashier,Gardener,Driver,Editor,Receptionist",
    "Language": "Spanish,Welsh,Polish,Arabic,Dutch,Italian",
    "Degree": "Diploma,Bachelor,Master,Doctorate",
    "Frame size": "Small,Medium,Large",
    "Course": "Pottery,Sign language,Bookbinding,Watercolour,Upholstery,Chess",
}
_PEOPLE_KEYS = _choices(
    "Full name,Guest name,Owner,Pupil,Teacher,Parent,Customer,Technician,Sender,Recipient,Applicant,"
    "Renter,Student,Tutor"
)
_DATE_KEYS = ("Arrival", "Trip date", "Received", "Shipped", "Start date", "Pick-up")


def invent_form(rng: Random) -> Form:
    """Up to six filled fields and up to eight together with the ticks, of one of several purposes."""
    titles, keys, tick_labels = rng.choice(_FORMS)
    wanted = rng.randint(3, 6)
    kept = set(rng.sample(_choices(keys), wanted))
    date_style = rng.randrange(4)
    fields = [(key, _filled_in(key, date_style, rng)) for key in _choices(keys) if key in kept]
    if rng.random() < 0.25:
        blank = rng.randrange(len(fields))
        fields[blank] = (fields[blank][0], "")
    num_ticks = rng.choice((0, 2, 3, 4)) if wanted <= 4 else rng.choice((0, 0, 2))
    labels = rng.sample(_choices(tick_labels), num_ticks)
    return Form(
        title=rng.choice(_choices(titles)) if rng.random() < 0.85 else None,
        fields=tuple(fields),
        ticks=tuple((label, rng.random() < 0.5) for label in labels),
        absent_keys=tuple(key for key in _choices(keys) if key not in kept),
    )


def _filled_in(key: str, date_style: int, rng: Random) -> str:
    if key in _CHOICES_OF_KEYS:
        return rng.choice(_choices(_CHOICES_OF_KEYS[key]))
    if key in _PEOPLE_KEYS:
        return f"{rng.choice(_FIRST_NAMES)} {rng.choice(_SURNAMES)}"
    if key == "Date of birth":
        return invent_date(rng, date_style, first_year=1948, last_year=2008)
    if key in _DATE_KEYS:
        return invent_date(rng, date_style)
    others = {
        "Street": f"{rng.randint(2, 140)} {rng.choice(_STREETS)}",
        "Town": rng.choice(_TOWNS),
        "Phone": _phone(rng),
        "Card no.": f"{rng.randint(10, 99)}-{rng.randint(1000, 9999)}",
        "Nights": str(rng.randint(2, 9)),
        "Guests": str(rng.randint(1, 6)),
        "Room no.": str(rng.randint(101, 489)),
        "Age": f"{rng.randint(2, 14)} years",
        "Weight": f"{rng.randint(2, 9)} kg",
        "Parcel weight": f"{rng.randint(1, 19)}.{rng.randint(1, 9)} kg",
        "Serial no.": f"{rng.choice('CDHKX')}{rng.randint(10000, 99999)}",
        "Quote": f"${rng.randint(24, 380)}.00",
        "Tracking no.": f"{rng.choice('PQRW')}{rng.choice('LTZ')} {rng.randint(1000, 9999)} {rng.randint(100, 999)}",
        "Bike no.": f"B{rng.randint(10, 99)}",
        "Days": str(rng.randint(1, 14)),
        "Deposit": f"£{rng.randint(2, 12) * 10}",
        "Fee": f"${rng.randint(45, 320)}",
    }
    return others[key]


_TABLES: tuple[tuple[str, str, str, str], ...] = (
    ("Harvest in tons,Fruit harvest", "Farm", "Hill Farm,Brook Farm,Elm Grove,Low Field,Westacre,Moorside,Greenlea",
     "Apples,Pears,Plums,Figs"),
    ("Ferry passengers,Ferry tickets", "Route", "Skerry,Holm Isle,Northpoint,Gull Rock,Sandbar,East Quay,Tern Cove",
     "May,June,July,August"),
    ("Staff by office,Staff count", "Office", "Wexbury,Thornby,Eastmere,Lynwick,Redmoor,Ashcombe,Wynford",
     "2021,2022,2023,2024"),
    ("Club results,League table", "Team", "Herons,Rockets,Badgers,Comets,Otters,Pilots,Harriers",
     "Won,Drawn,Lost"),
    ("Stock list,Store room", "Item", "Bolts,Hinges,Brackets,Washers,Dowels,Nails,Anchors", "Bought,Sold,Left"),
    ("Rainfall in mm,Monthly rain", "Station", "Peak,Valley,Harbour,Airfield,Forest,Dam,Lighthouse",
     "Spring,Summer,Autumn"),
    ("Class survey,Pupils by class", "Class", "Class 1A,Class 1B,Class 2A,Class 2B,Class 3A,Class 3B,Class 4A",
     "Walk,Bus,Bike,Car"),
    ("Sales by region,Revenue", "Region", "North,South,East,West,Central,Coast,Islands", "Q1,Q2,Q3,Q4"),
    ("Price list,Ticket prices", "Ticket", "Single,Return,Day pass,Weekend,Family,Group,Season", "Adult,Child,Senior"),
    ("Nutrition per portion,Food values", "Food", "Oats,Lentils,Yoghurt,Walnuts,Cheddar,Bananas,Rye bread",
     "Fat,Sugar,Fibre,Salt"),
)  # fmt: skip


def invent_table(rng: Random) -> Table:
    """Two to six rows of one to four columns of numbers, all of one kind in each column."""
    titles, corner, all_rows, all_columns = rng.choice(_TABLES)
    rows = rng.sample(_choices(all_rows), rng.randint(2, 6))
    available = _choices(all_columns)
    chosen = sorted(rng.sample(range(len(available)), rng.randint(2, len(available))))
    columns = [available[index] for index in chosen]
    style = _number_style(corner, rng)
    columns_of_numbers = [[_number(style, rng) for _ in rows] for _ in columns]
    numbers = tuple(zip(*columns_of_numbers, strict=True))
    return Table(
        title=rng.choice(_choices(titles)) if rng.random() < 0.7 else None,
        corner=corner,
        columns=tuple(columns),
        rows=tuple(rows),
        cells=tuple(tuple(_cell(style, number) for number in row) for row in numbers),
        numbers=numbers,
        absent_row=rng.choice([row for row in _choices(all_rows) if row not in rows]),
    )


def _number_style(corner: str, rng: Random) -> str:
    if corner == "Team":
        return "small"
    if corner in ("Class", "Item", "Office"):
        return rng.choice(("small", "middle"))
    styles = {"Ticket": ("price",), "Food": ("decimal",), "Region": ("large", "dollars"), "Route": ("middle", "large")}
    return rng.choice(styles.get(corner, ("middle", "decimal")))


def _number(style: str, rng: Random) -> float:
    if style == "price":
        return rng.randint(4, 90) / 2
    if style == "decimal":
        return rng.randint(3, 249) / 10
    low, high = {"small": (0, 30), "middle": (12, 480), "large": (800, 9900), "dollars": (900, 9900)}[style]
    return rng.randint(low, high)


def _cell(style: str, number: float) -> str:
    if style == "price":
        return f"${number:.2f}"
    if style == "decimal":
        return f"{number:.1f}"
    return f"${number:,.0f}" if style == "dollars" else f"{number:,.0f}"


_SENTENCES = (
    "The {quality} {thing} stands behind the {place}.",
    "Every {day} the {person} carries {goods} to the {place}.",
    "We painted the {thing} {shade} before the {season} storms.",
    "A {quality} {animal} sleeps under the {thing}.",
    "Please return the {thing} to the {person} by {day}.",
    "In {season} the {place} smells of {goods}.",
    "Nobody knew why the {animal} crossed the {place}.",
    "Our {person} keeps {goods} in a {quality} {thing}.",
    "Next {day} the {place} will close at noon.",
    "She found {number} {quality} coins near the {place}.",
    "Send {number} boxes of {goods} with the {person}.",
    "They saw a {shade} {animal} beside the {place}.",
    "Rain fell on the {quality} {place} until {day}.",
    "His {thing} was {shade} and rather {quality}.",
    "It took {number} weeks to mend the {thing}.",
    "Fresh {goods} came from the {place} on {day}.",
)
_WORDS = {
    "quality": _choices("narrow,quiet,crooked,faded,hollow,gentle,heavy,shiny,humble,sturdy,curious,dusty"),
    "thing": _choices("ladder,lantern,bench,piano,wagon,gate,barrel,clock,kettle,cabinet,mirror,umbrella"),
    "place": _choices("harbour,orchard,chapel,quarry,meadow,library,tunnel,bakery,island,valley,station,bridge"),
    "person": _choices("farmer,captain,tailor,neighbour,doctor,painter,miller,porter,gardener,singer"),
    "goods": _choices("plums,candles,timber,wool,honey,letters,apples,pepper,barley,linen"),
    "animal": _choices("heron,donkey,spaniel,badger,kitten,goose,otter,falcon"),
    "day": _choices("Monday,Tuesday,Wednesday,Thursday,Friday,Saturday,Sunday"),
    "season": _choices("spring,summer,autumn,winter"),
    "shade": _choices("crimson,yellow,green,purple,white,silver"),
    "number": _choices("three,seven,nine,twelve,twenty,forty"),
}
_NOTICE_LINES = _choices(
    "Doors open at nine,Bring warm gloves,Leave muddy boots outside,No dogs on the lawn,Tea is served upstairs,"
    "Keep the windows shut,Ask the warden for keys,Return all borrowed tools,Children swim for free,"
    "Switch off the heater,Meet beside the fountain,Water the ferns twice,Lunch starts after one,"
    "Park behind the barn,Wear a bright jacket,Please ring the bell,Pay at the front desk,Label every jar,"
    "Sweep the porch daily,Quiet after ten,Feed the hens early,Carry drinking water,Lock both gates"
)
_HEADINGS = _choices(
    "Garden Notes,House Rules,Village News,Field Report,Weather Diary,Harvest Letter,Notice Board,Camp Plan,"
    "Morning Memo,Trail Guide,Weekly Bulletin,To All Tenants,Museum Leaflet,Short Story"
)
_MIN_CHARACTERS_OF_LINES = 9


def invent_page(rng: Random) -> Page:
    """A list of short lines, or one or two paragraphs of broken lines."""
    heading = rng.choice(_HEADINGS) if rng.random() < 0.5 else None
    is_list = rng.random() < 0.3
    if is_list:
        lines, num_first = rng.sample(_NOTICE_LINES, rng.randint(3, MAX_PAGE_LINES)), 0
    else:
        lines, num_first = _paragraphs(rng)
    text = " ".join(lines).lower()
    absent = [word for words in _WORDS.values() for word in words if word.lower() not in f"{text} {heading}".lower()]
    return Page(heading, tuple(lines), num_first, is_list, tuple(rng.sample(absent, 2)))


def _paragraphs(rng: Random) -> tuple[list[str], int]:
    """Broken lines that all have two words or more, and how many of them are the first paragraph."""
    while True:
        sentences = [_sentence(template, rng) for template in rng.sample(_SENTENCES, rng.randint(2, 3))]
        width = rng.randint(20, 32)
        num_first = rng.choice((len(sentences), len(sentences), 1))
        first = wrap(" ".join(sentences[:num_first]), width)
        second = wrap(" ".join(sentences[num_first:]), width)
        lines = first + second
        is_even = all(len(line) >= _MIN_CHARACTERS_OF_LINES and " " in line for line in lines)
        if is_even and 3 <= len(lines) <= MAX_PAGE_LINES:
            return lines, len(first)


def _sentence(template: str, rng: Random) -> str:
    return template.format(**{slot: rng.choice(words) for slot, words in _WORDS.items()})
