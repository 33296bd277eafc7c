"""What an exchange's name of a contract may be, whose contract it is, what it says of it, and what stands for the name.

Pure text, without settings and files. A market is a contract of an exchange. Its id, which stands in every column
`symbol`, is the bare name on Binance (BTCUSDT), and the exchange in capitals, an underline and the name on any other
(BYBIT_BTCUSDT, typed `bybit:BTCUSDT`). The two are never mistaken for each other: a name of Binance with an underline
ends in it and PERP or six digits, and behind the underline of an exchange no such thing may stand.

A perpetual margined in dollars is called after its base and its quote asset (BTCUSDT), on Gate with an underline
between them (GATE_BTC_USDT, typed `gate:BTC_USDT`), on Bybit those in USDC after the base alone (BTCPERP); on Binance
the others say what they are behind an underline (BTCUSD_PERP, BTCUSDT_240927).
What the exchange itself says of a contract counts more than its name (`market/exchange.py`).
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from heatmap_pipeline.errors import listed

MAX_LENGTH = 30
"""Letters of the longest symbol; in UTF-8 or as a `safe_name` a file can still be called after it."""

DOLLARS = (
    "USDT", "USDC", "FDUSD", "USD1", "USDE", "BUSD", "TUSD", "USDP", "USDS", "USDD", "RLUSD", "PYUSD", "GUSD", "DAI",
)  # fmt: skip
"""Quote assets that are worth a dollar: what is quoted in one is computed."""

OTHERS = (
    "BTC", "ETH", "BNB", "SOL", "XRP", "TRX", "DOGE", "DOT", "EURI", "AEUR", "EUR", "TRY", "BRL", "GBP", "JPY", "AUD",
    "CHF", "CAD", "CNY", "CNH", "KRW", "INR", "RUB", "UAH", "PLN", "RON", "CZK", "ZAR", "MXN", "ARS", "COP", "NGN",
    "IDRT", "BIDR", "IDR", "VAI",
)  # fmt: skip
"""Quote assets that are worth something else."""

_COIN = "USD"
"""How the pair of a coin-margined contract ends: no coin of a dollar, but dollars paid in the base."""

HOME_EXCHANGE = "binance"
"""The exchange whose markets are called by the bare name."""

OTHER_EXCHANGES = ("bybit", "gate")
"""The exchanges whose names stand before those of their contracts."""

UNDERLINED = frozenset({"gate"})
"""Those of them that write an underline between base and quote."""

_ENDING = re.compile(r"(.+)_(PERP|\d{6})")
_ENDING_ALONE = re.compile(r"PERP|\d{6}")
_USDC_PERPETUAL = re.compile(r"(.+)PERP")
_SAFE = re.compile(r"(?:[A-Z0-9]|u[0-9A-F]{4})+")


@dataclass(frozen=True)
class Contract:
    """What is known of a contract.

    Attributes:
        symbol: id of the market.
        base: the asset one contract is; '' where nothing tells.
        quote: the asset of its prices and volumes; '' where nothing tells.
        kind: perpetual (margined in its quote), delivery (with an end) or coin-margined (contracts are dollars).
        lot: smallest quantity that can be traded, in units of the base; None where nothing tells.
        contract_size: units of the base in what the exchange calls one contract.
    """

    symbol: str
    base: str
    quote: str
    kind: Literal["perpetual", "delivery", "coin-margined"] = "perpetual"
    lot: float | None = None
    contract_size: float = 1.0


def exchange_and_name(symbol: str) -> tuple[str, str]:
    """Return the exchange of a market, by its id, and what the contract is called there.

    Example:
        >>> exchange_and_name("BYBIT_BTCUSDT"), exchange_and_name("BTCUSDT_240927")
        (('bybit', 'BTCUSDT'), ('binance', 'BTCUSDT_240927'))
        >>> exchange_and_name("GATE_BTC_USDT")
        ('gate', 'BTC_USDT')
    """
    head, _, name = symbol.partition("_")
    exchange, parts = head.lower(), name.split("_")
    other = head == head.upper() and exchange in OTHER_EXCHANGES
    if other and all(parts) and len(parts) <= 1 + (exchange in UNDERLINED) and not _ENDING_ALONE.fullmatch(parts[-1]):
        return exchange, name
    return HOME_EXCHANGE, symbol


def market_id(typed: str) -> str:
    """Return the id of the market that a user types as exchange:SYMBOL; any other text is returned as it is.

    Example:
        >>> market_id("bybit:BTCUSDT"), market_id("binance:BTCUSDT"), market_id("BTCUSDT")
        ('BYBIT_BTCUSDT', 'BTCUSDT', 'BTCUSDT')
    """
    exchange, mark, name = typed.partition(":")
    if mark and exchange.lower() == HOME_EXCHANGE:
        return name
    return f"{exchange.upper()}_{name}" if mark and exchange.lower() in OTHER_EXCHANGES else typed


def typed_name(symbol: str) -> str:
    """Return how a market is typed and shown to people, by its id; `market_id` reads it back.

    Example:
        >>> typed_name("BYBIT_BTCUSDT"), typed_name("BTCUSDT")
        ('bybit:BTCUSDT', 'BTCUSDT')
    """
    exchange, name = exchange_and_name(symbol)
    return symbol if exchange == HOME_EXCHANGE else f"{exchange}:{name}"


def contract_of(symbol: str) -> Contract:
    """Return what the name of a contract says: its ending is the quote asset, the longest that is known.

    Example:
        >>> contract_of("1000SHIBUSDC")
        Contract(symbol='1000SHIBUSDC', base='1000SHIB', quote='USDC', kind='perpetual', lot=None, contract_size=1.0)
        >>> contract_of("BTCUSD_PERP").kind, contract_of("BTCUSDT_240927").kind
        ('coin-margined', 'delivery')
    """
    exchange, name = exchange_and_name(symbol)
    if exchange in UNDERLINED and "_" in name:
        base, _, quote = name.partition("_")
        return Contract(symbol, base, quote, "coin-margined" if quote == _COIN else "perpetual")
    if exchange == "bybit" and (in_usdc := _USDC_PERPETUAL.fullmatch(name)):
        return Contract(symbol, in_usdc[1], "USDC")
    match = _ENDING.fullmatch(name)
    pair = match[1] if match else name
    known = [asset for asset in (*DOLLARS, *OTHERS, _COIN) if pair.endswith(asset) and pair != asset]
    quote = max(known, key=len, default="")
    base = pair.removesuffix(quote) if quote else ""
    if quote == _COIN:
        return Contract(symbol, base, quote, "coin-margined")
    return Contract(symbol, base, quote, "delivery" if match and match[2] != "PERP" else "perpetual")


EXCHANGES: Mapping[str, str] = {"binance": "Binance", "bybit": "Bybit", "bitget": "Bitget", "gate": "Gate"}
"""How exchanges write themselves, by the name that sources have for them."""


def own_exchange(symbol: str) -> str:
    """Return the exchange, a name of `EXCHANGES`, that a market is traded on, by its id.

    Example:
        >>> own_exchange("BTCUSDT"), own_exchange("BYBIT_BTCUSDT")
        ('binance', 'bybit')
    """
    return exchange_and_name(symbol)[0]


def pair_of(symbol: str) -> str:
    """Return what a market of another exchange is called on Binance, or would be, by its id; one of Binance its name.

    Example:
        >>> pair_of("BYBIT_BTCUSDT"), pair_of("BYBIT_BTCPERP"), pair_of("BTCUSDT")
        ('BTCUSDT', 'BTCUSDC', 'BTCUSDT')
    """
    contract = contract_of(symbol)
    return symbol if own_exchange(symbol) == HOME_EXCHANGE else f"{contract.base}{contract.quote}"


def name_at(exchange: str, symbol: str) -> str:
    """Return what a market is called where something of an exchange is looked for: its name there, else its pair.

    Example:
        >>> name_at("bybit", "BYBIT_BTCPERP"), name_at("binance", "BYBIT_BTCPERP"), name_at("bybit", "BTCUSDT")
        ('BTCPERP', 'BTCUSDC', 'BTCUSDT')
    """
    symbol_exchange, name = exchange_and_name(symbol)
    return name if exchange == symbol_exchange else pair_of(symbol)


def title_of(symbol: str, quote: str, *, simulated: bool = False) -> str:
    """Return what a symbol is, as titles say it: whose contract, margined in what.

    Args:
        symbol: id of the market.
        quote: asset it is quoted and margined in.
        simulated: whether its market is made up; then it is no exchange's.

    Example:
        >>> title_of("BTCUSDT", "USDT"), title_of("BTCUSDT", "USDT", simulated=True)
        ('Binance USDT-M perpetual', 'Simulated USDT-M perpetual')
    """
    return f"{'Simulated' if simulated else EXCHANGES[own_exchange(symbol)]} {quote}-M perpetual"


def is_dollar(asset: str) -> bool:
    """Whether a quote asset is worth a dollar: those of `DOLLARS`, and any other that has USD in its name."""
    return asset in DOLLARS or "USD" in asset


def why_not_computed(contract: Contract) -> str:
    """Return what a contract is, if it is none that is computed; '' for a perpetual that is quoted in dollars.

    Example:
        >>> why_not_computed(contract_of("BTCUSDT"))
        ''
        >>> why_not_computed(contract_of("ETHBTC"))
        'symbol ETHBTC is quoted in BTC, and only contracts quoted in dollars are computed; choose one, such as ETHUSDT'
    """
    name, end = typed_name(contract.symbol), _end(contract.symbol)
    prefix = f"{name.partition(':')[0]}:" if ":" in name else ""
    between = "_" if prefix.rstrip(":") in UNDERLINED else ""
    quote = (contract.kind == "delivery" and contract.quote) or "USDT"
    near = f"{prefix}{contract.base or 'BTC'}{between}{quote}"
    # An exchange may call a contract something else than its name says.
    choose = "choose another" if near == name else f"choose one, such as {near}"
    if contract.kind == "coin-margined":
        return (
            f"symbol {name} is coin-margined (COIN-M: its contracts are US dollars, paid in {contract.base or 'coins'}"
            f"), and only contracts margined in dollars are computed; {choose}"
        )
    if contract.kind == "delivery":
        return (
            f"symbol {name} is a delivery contract, which ends{end}, and only perpetual contracts are computed; "
            f"{choose}"
        )
    if contract.quote and not is_dollar(contract.quote):
        return (
            f"symbol {name} is quoted in {contract.quote}, and only contracts quoted in dollars are computed; {choose}"
        )
    return ""


def words_for_unknown_quote(symbol: str) -> str:
    """Return what to tell of a contract whose name does not say what it is quoted in, where nobody else can tell."""
    return (
        f"symbol {symbol} does not end with an asset that contracts are known to be quoted in "
        f"({listed(DOLLARS, 'or')}); write it as the exchange does, for example BTCUSDT"
    )


def why_no_symbol(text: str) -> str:
    """Return why a text is not the name of a contract that is computed, by itself; '' if it may be one.

    A symbol is 2 to 30 letters of any alphabet and digits 0 to 9, in the form in which Unicode composes them (NFKC),
    letters of a to z as capitals; digits of other scripts look like these and are none. So none is a path, an option or
    a blank, and it is one file name on every file system. The id of a market of another exchange begins with that.

    Example:
        >>> why_no_symbol("币安人生USDT"), why_no_symbol("BYBIT_BTCUSDT")
        ('', '')
        >>> why_no_symbol("btcusdt")
        "symbol 'btcusdt' is not a symbol; write it as the exchange does, do you mean BTCUSDT?"
    """
    match, contract = _ENDING.fullmatch(text), contract_of(text)
    if match is not None and not why_not_written(match[1]) and (words := why_not_computed(contract)):
        return words  # what it is says more than that an underline is no letter
    return why_not_written(text) or why_not_computed(contract)


def why_not_written(text: str) -> str:
    """Return why a text cannot be the name of any perpetual contract, of whatever quote; '' if it can."""
    exchange, name = exchange_and_name(text)
    prefix = typed_name(text).removesuffix(name)
    pair = name.replace("_", "") if exchange in UNDERLINED else name
    odd = next((letter for letter in pair if not _allowed(letter)), "")
    composed = unicodedata.normalize("NFKC", name)
    complete = exchange not in UNDERLINED or "_" in name
    if complete and len(pair) >= 2 and len(text) <= MAX_LENGTH and not odd and composed == name and _starts(name):
        return ""
    nearest = _nearest(exchange, composed)
    letters = nearest.replace("_", "") if exchange in UNDERLINED else nearest
    means = nearest != name and 2 <= len(nearest) <= MAX_LENGTH and all(map(_allowed, letters)) and _starts(nearest)
    example = "BTC_USDT" if exchange in UNDERLINED else "BTCUSDT"
    advice = f"do you mean {prefix}{nearest}?" if means else f"for example {prefix}{example}"
    reason = ""
    if len(text) > MAX_LENGTH:
        reason = f" (more than {MAX_LENGTH} letters)"
    elif ":" in name:
        reason = f" (before a colon stands an exchange: {listed((HOME_EXCHANGE, *OTHER_EXCHANGES), 'or')})"
    elif odd and not "a" <= odd <= "z" and unicodedata.normalize("NFKC", odd) == odd:
        reason = f" ({odd!a} is neither a letter nor a digit 0 to 9)"
    return f"symbol {typed_name(text)[:40]!r} is not a symbol; write it as the exchange does, {advice}{reason}"


def _nearest(exchange: str, composed: str) -> str:
    """Return what somebody most likely means who wrote a name that is none."""
    nearest = re.sub("[a-z]", lambda letter: letter[0].upper(), composed).strip()
    nearest = re.sub(r"\d", lambda digit: str(int(digit[0])), nearest)
    if _ENDING.fullmatch(nearest):
        nearest = nearest.partition("_")[0]
    if exchange in UNDERLINED and "_" not in nearest and (pair := contract_of(nearest)).quote:
        nearest = f"{pair.base}_{pair.quote}"
    return nearest


def safe_name(symbol: str) -> str:
    """Return what stands for a market where only A-Z, a-z, 0-9 and one underline may: in names of Dagster and settings.

    Letters besides A-Z and 0-9 become `u` and the four hexadecimal digits of their code, as JSON writes them behind a
    backslash; those beyond FFFF become two such. An id of A-Z and 0-9 stands for itself, and so does the underline
    behind an exchange, and that of the names of such exchanges as write one.

    Example:
        >>> safe_name("币安人生USDT"), safe_name("BTCUSDT"), safe_name("BYBIT_BTCUSDT")
        ('u5E01u5B89u4EBAu751FUSDT', 'BTCUSDT', 'BYBIT_BTCUSDT')
    """
    exchange, name = exchange_and_name(symbol)
    kept = "_" if exchange in UNDERLINED else ""
    written = "".join(letter if _plain(letter) or letter == kept else _escaped(letter) for letter in name)
    return symbol.removesuffix(name) + written


def of_safe_name(name: str) -> str:
    """Return the id of the market that a `safe_name` stands for, '' for a text that is none.

    Example:
        >>> of_safe_name("u5E01u5B89u4EBAu751FUSDT"), of_safe_name("BYBIT_BTCUSDT"), of_safe_name("btcusdt")
        ('币安人生USDT', 'BYBIT_BTCUSDT', '')
    """
    try:
        symbol = "_".join(map(_read_escaped, name.split("_")))
    except ValueError:  # no such name, or half of a pair
        return ""
    return symbol if safe_name(symbol) == name else ""


def _read_escaped(text: str) -> str:
    """Return what a part of a `safe_name` stands for; raises ValueError for what is none."""
    if not _SAFE.fullmatch(text):
        raise ValueError(text)
    units = b"".join(
        int(part[1:], 16).to_bytes(2, "big") if len(part) > 1 else part.encode("utf-16-be")
        for part in re.findall(r"u[0-9A-F]{4}|[A-Z0-9]", text)
    )
    return units.decode("utf-16-be")


def _escaped(letter: str) -> str:
    units = letter.encode("utf-16-be", "surrogatepass").hex().upper()
    return "".join(f"u{units[at : at + 4]}" for at in range(0, len(units), 4))


def _plain(letter: str) -> bool:
    return letter.isascii() and (letter.isdigit() or letter.isupper())


def _allowed(letter: str) -> bool:
    return _plain(letter) or (not letter.isascii() and unicodedata.category(letter)[0] in "LM" and letter.isprintable())


def _starts(text: str) -> bool:
    """Whether a text begins with a letter or a digit, not with a mark that would belong to what stands before it."""
    return text != "" and (_plain(text[0]) or unicodedata.category(text[0])[0] == "L")


def _end(symbol: str) -> str:
    try:
        return f" on {datetime.strptime(symbol[-6:], '%y%m%d').date()}"
    except ValueError:
        return ""
