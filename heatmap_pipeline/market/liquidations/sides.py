"""What each exchange's word for a side says about the position that was closed.

Binance names the ORDER (to sell closes a long), Bybit and Bitget the POSITION (Buy = a long), OKX both (`long:sell`).
"""

from __future__ import annotations

_ORDER = {"sell": "long", "buy": "short"}
_POSITION = {"buy": "long", "sell": "short"}
_BOTH = {f"{named}:{word}": side for word, side in _ORDER.items() for named in (side, "net")}
_WORDS = {"binance": _ORDER, "bitget": _POSITION, "bybit": _POSITION, "okx": _BOTH}


def position_side(exchange: str, word: str) -> str | None:
    """Return long or short, None for a word that the exchange does not use, or an exchange whose words are not known.

    Example:
        >>> position_side("binance", "SELL"), position_side("bybit", "Sell"), position_side("okx", "long:sell")
        ('long', 'short', 'long')
    """
    return _WORDS.get(exchange, {}).get(word.strip().lower())
