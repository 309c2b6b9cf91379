"""Receipts: a shop, a date, what was bought, what it came to."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from fastvlm.data.synthetic.documents import strings, words
from fastvlm.data.synthetic.documents.document import Document, Fact, Setting
from fastvlm.data.synthetic.documents.drawing import Drawing
from fastvlm.data.synthetic.documents.sheet import Align, RuleKind, Sheet

TRAIN_LAYOUTS = ("plain", "quantity first", "two rows", "columns", "quantity after", "dotted")
HELD_OUT_LAYOUTS = ("price first", "boxed total", "numbered")

_TOTAL_WORDS = ("TOTAL", "Total", "TOTAL DUE", "Amount due", "GRAND TOTAL", "Total amount", "TOTAL:", "Balance due")
_NUMBER_WORDS = ("No.", "Receipt", "Invoice", "Bill no", "Ref", "Receipt #", "Order")
_PAYMENTS = ("CASH", "CARD", "VISA", "Cash", "Card", "Voucher")
_FAREWELLS = ("Thank you!", "THANK YOU", "Please come again", "Have a nice day", "Goodbye", "See you soon")


_LONG_PX = 512
"""Receipts that are higher list more."""


@dataclass(frozen=True)
class Item:
    """One thing that was bought. cents: for all of them."""

    name: str
    quantity: int
    cents: int


@dataclass(frozen=True)
class Receipt:
    """What a receipt says; optional parts are None where they are not printed."""

    shop: str
    date: str
    time: str | None
    number: str | None
    phone: str | None
    address: str | None
    items: tuple[Item, ...]
    tax_cents: int | None
    payment: str | None
    paid_cents: int | None
    currency: str

    @property
    def subtotal_cents(self) -> int:
        """What the items come to."""
        return sum(item.cents for item in self.items)

    @property
    def total_cents(self) -> int:
        """With tax."""
        return self.subtotal_cents + (self.tax_cents or 0)

    @property
    def total(self) -> str:
        """The total as it is printed."""
        return self.currency + money(self.total_cents)


def money(cents: int) -> str:
    """An amount as it is printed, without its currency."""
    return f"{cents // 100}.{cents % 100:02d}"


def sample_receipt(setting: Setting) -> Document:
    """Draw a receipt that fills its canvas more or less."""
    rng = setting.rng
    paper, ink = setting.paper_and_ink(colored_share=0.04)
    sheet = Sheet(
        setting.width_px, setting.height_px, face=setting.face(*(("mono", "sans") if rng.random() < 0.9 else ())),
        size_px=rng.randint(18, 24) if setting.width_px >= 320 else rng.randint(16, 19), ink=ink,
        margin_px=rng.uniform(6, 0.07 * setting.width_px), leading=rng.uniform(1.1, 1.35),
    )  # fmt: skip
    layout = setting.layout(TRAIN_LAYOUTS, HELD_OUT_LAYOUTS)
    receipt = _sample(setting, sheet, layout)
    _write(setting, sheet, receipt, layout)
    drawing = Drawing(setting.width_px, setting.height_px, paper, tuple(sheet.marks), _tilt(setting))
    return Document(
        kind="receipt",
        drawing=drawing,
        facts=tuple(_facts(receipt, layout)),
        transcript="\n".join(sheet.lines),
        caption=f"A receipt from {receipt.shop} with a total of {receipt.total}.",
        missing=tuple(_missing(receipt)),
    )


def _tilt(setting: Setting) -> float:
    return setting.rng.uniform(-1.2, 1.2) if setting.rng.random() < 0.2 else 0.0


def _sample(setting: Setting, sheet: Sheet, layout: str) -> Receipt:
    rng = setting.rng
    rows = sheet.rows_left
    head = {name: rng.random() < share for name, share in (("address", 0.4), ("phone", 0.3), ("tax", 0.5))}
    has_payment = rng.random() < 0.6
    taken = 5 + sum(head.values()) + 2 * has_payment
    per_item = 2 if layout == "two rows" else 1
    most = max(1, min(24 if setting.height_px > _LONG_PX else 10, (rows - taken) // per_item))
    cents_above = rng.randrange(100_000, 800_000, 500) if setting.words == "held_out" else 0
    items: dict[str, Item] = {}
    for _ in range(40):
        if len(items) >= rng.randint(max(1, most - 2), most):
            break
        name = setting.text(strings.goods)
        name = rng.choice((name.upper(), name.capitalize(), name)) if not items else _like(next(iter(items)), name)
        quantity = rng.choice((1, 1, 1, 2, 2, 3, 4, 6))
        cents = quantity * rng.choice((rng.randrange(10, 2000), 50 * rng.randrange(1, 60)))
        cents += cents_above if not items else 0
        if name not in items and sheet.fits(name, "9 x 99.99", money(cents), gap=0.7):
            items[name] = Item(name, quantity, cents)
    if not items:
        items["Tea"] = Item("Tea", 1, 250 + cents_above)
    subtotal = sum(item.cents for item in items.values())
    tax = round(subtotal * rng.choice((0.05, 0.06, 0.07, 0.1, 0.19))) if head["tax"] else None
    total = subtotal + (tax or 0)
    payment = rng.choice(_PAYMENTS) if has_payment else None
    paid = -(-total // 500) * 500 if payment in ("CASH", "Cash") and rng.random() < 0.8 else None
    shop = _shop(setting, sheet)
    address = setting.text(strings.street)
    return Receipt(
        shop=shop,
        date=setting.text(strings.date),
        time=setting.text(strings.time_of_day) if rng.random() < 0.6 else None,
        number=setting.text(strings.code) if rng.random() < 0.6 else None,
        phone=setting.text(strings.phone) if head["phone"] else None,
        address=address if head["address"] and sheet.fits(address) else None,
        items=tuple(items.values()),
        tax_cents=tax,
        payment=payment,
        paid_cents=paid,
        currency=rng.choice(("", "", "", "$", "£", "€")),
    )


def _like(model: str, name: str) -> str:
    """A name written as another one is."""
    if model.isupper():
        return name.upper()
    return name.capitalize() if model[0].isupper() else name


def _shop(setting: Setting, sheet: Sheet) -> str:
    for _ in range(20):
        name = setting.text(words.name)
        kind = setting.rng.choice(("", "", " Market", " Store", " Cafe", " & Co", " Shop", " Bakery", " Foods"))
        shop = name + kind
        shop = shop.upper() if setting.rng.random() < 0.4 else shop
        if sheet.width_of(shop, scale=1.4) <= sheet.inner_px:
            return shop
    return "Shop"


def _write(setting: Setting, sheet: Sheet, receipt: Receipt, layout: str) -> None:
    rng = setting.rng
    align: Align = "left" if rng.random() < 0.25 else "center"
    sheet.row((receipt.shop, align), scale=rng.choice((1.0, 1.2, 1.4)))
    for text in (receipt.address, receipt.phone and f"Tel {receipt.phone}"):
        if text:
            sheet.row((text, align))
    dates_first = rng.random() < 0.7
    if dates_first:
        _write_dates(setting, sheet, receipt)
    kind: RuleKind = rng.choice(("solid", "dashes", "double", "none"))
    sheet.rule(kind)
    for number, item in enumerate(receipt.items, start=1):
        _write_item(sheet, item, number, receipt, layout)
    sheet.rule(kind)
    _write_sums(setting, sheet, receipt, layout)
    if not dates_first:
        _write_dates(setting, sheet, receipt)
    if sheet.rows_left > 1 and rng.random() < 0.5:
        sheet.space()
        sheet.row((rng.choice(_FAREWELLS), "center"))


def _write_sums(setting: Setting, sheet: Sheet, receipt: Receipt, layout: str) -> None:
    """Write what everything comes to, and how it was paid."""
    rng = setting.rng
    if receipt.tax_cents is not None:
        sheet.row((rng.choice(("Subtotal", "SUBTOTAL", "Net")), "left"), (money(receipt.subtotal_cents), "right"))
        sheet.row((rng.choice(("Tax", "TAX", "VAT", "GST")), "left"), (money(receipt.tax_cents), "right"))
    total_word = rng.choice(_TOTAL_WORDS)
    total = receipt.total
    scale = rng.choice((1.0, 1.0, 1.2))
    if layout == "boxed total":
        sheet.rule("solid")
        sheet.row((f"{total_word} {total}", "center"), scale=scale)
        sheet.rule("solid")
    else:
        sheet.row((total_word, "left"), (total, "right"), scale=scale)
    if receipt.payment is not None:
        paid = receipt.paid_cents if receipt.paid_cents is not None else receipt.total_cents
        sheet.row((receipt.payment, "left"), (money(paid), "right"))
        if receipt.paid_cents is not None:
            change = money(receipt.paid_cents - receipt.total_cents)
            sheet.row((rng.choice(("Change", "CHANGE")), "left"), (change, "right"))


def _write_dates(setting: Setting, sheet: Sheet, receipt: Receipt) -> None:
    date = f"Date: {receipt.date}" if setting.rng.random() < 0.4 else receipt.date
    if receipt.time is not None and sheet.fits(date, receipt.time):
        sheet.row((date, "left"), (receipt.time, "right"))
    else:
        sheet.row((date, "left"))
        if receipt.time is not None:
            sheet.row((receipt.time, "left"))
    if receipt.number is not None:
        sheet.row((f"{setting.rng.choice(_NUMBER_WORDS)} {receipt.number}", "left"))


def _write_item(sheet: Sheet, item: Item, number: int, receipt: Receipt, layout: str) -> None:
    price, each = money(item.cents), money(item.cents // item.quantity)
    match layout:
        case "quantity first":
            sheet.row((f"{item.quantity} {item.name}", "left"), (price, "right"))
        case "two rows":
            sheet.row((item.name, "left"))
            sheet.row((f"{item.quantity} x {each}", "left"), (price, "right"), indent_px=sheet.size_px)
        case "columns":
            edges = (sheet.margin_px, 0.66 * sheet.width_px, sheet.width_px - sheet.margin_px)
            sheet.columns((item.name, str(item.quantity), price), edges, ("left", "center", "right"))
        case "quantity after":
            sheet.row((f"{item.name} x{item.quantity}", "left"), (price, "right"))
        case "dotted":
            sheet.leaders(item.name, price)
        case "price first":
            sheet.row((f"{price}  {item.name}", "left"), (f"x{item.quantity}", "right"))
        case "numbered":
            sheet.row((f"{number}. {item.name}", "left"), (receipt.currency + price, "right"))
        case _:
            sheet.row((item.name, "left"), (price, "right"))


_PRINTED_SOMETIMES = ("time", "number", "phone", "address", "payment")
"""Parts of a receipt that are asked for by their names."""

_WITHOUT_QUANTITY = ("plain", "dotted", "boxed total", "numbered")


def _facts(receipt: Receipt, layout: str) -> Iterator[Fact]:
    sign = receipt.currency if layout == "numbered" else ""
    prices = tuple(dict.fromkeys(sign + money(item.cents) for item in receipt.items))
    sums = tuple(receipt.currency + price.removeprefix(sign) for price in prices)
    yield Fact("total", receipt.total, {}, _others(receipt.total, sums))
    yield Fact("date", receipt.date)
    yield Fact("shop", receipt.shop)
    yield Fact("num_items", str(len(receipt.items)))
    for intent in _PRINTED_SOMETIMES:
        if (value := getattr(receipt, intent)) is not None:
            yield Fact(intent, value)
    if receipt.tax_cents is not None:
        yield Fact("subtotal", money(receipt.subtotal_cents))
        yield Fact("tax", money(receipt.tax_cents))
    if receipt.paid_cents is not None:
        yield Fact("change", money(receipt.paid_cents - receipt.total_cents))
    names = tuple(item.name for item in receipt.items)
    for item in receipt.items:
        if layout not in _WITHOUT_QUANTITY:
            yield Fact("quantity", str(item.quantity), {"thing": item.name})
        if layout not in _WITHOUT_QUANTITY and item.quantity > 1:
            continue  # the price of one and of all could be meant
        price = sign + money(item.cents)
        yield Fact("price", price, {"thing": item.name}, _others(price, prices))
        if sum(item.cents in (other.cents, other.cents / other.quantity) for other in receipt.items) == 1:
            yield Fact("costs", item.name, {"value": price}, _others(item.name, names))
    dearest = _dearest([item.cents for item in receipt.items])
    of_one = _dearest([item.cents / item.quantity for item in receipt.items])
    if dearest is not None and (layout in _WITHOUT_QUANTITY or dearest == of_one):
        yield Fact("dearest", names[dearest], {}, _others(names[dearest], names))


def _dearest(prices: Sequence[float]) -> int | None:
    """The place of the highest of several prices; None where two are."""
    best, *others = sorted(range(len(prices)), key=lambda place: -prices[place])
    return best if others and prices[best] > prices[others[0]] else None


def _missing(receipt: Receipt) -> Iterator[Fact]:
    for intent in _PRINTED_SOMETIMES:
        if getattr(receipt, intent) is None:
            yield Fact(intent, "")
    if receipt.tax_cents is None:
        yield Fact("tax", "")
    if receipt.paid_cents is None:
        yield Fact("change", "")


def _others(answer: str, candidates: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(candidate for candidate in candidates if candidate != answer)
