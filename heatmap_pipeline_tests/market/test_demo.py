"""The demo market: the same bytes for the same seed, and a market a trader would believe."""

from __future__ import annotations

import hashlib
import io
import zipfile
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from heatmap_pipeline.market import demo, demo_files
from heatmap_pipeline.market.archive import ArchiveReader
from heatmap_pipeline.market.demo import (
    DEMO_EPOCH,
    DEMO_SYMBOLS,
    DemoPlan,
    simulate_day,
    simulate_plan,
    write_demo_days,
)
from heatmap_pipeline.market.sides import Counted, measure_sides
from heatmap_pipeline.market.tables import MarketError
from heatmap_pipeline.settings import SIMULATED_MARKER

_DAY = timedelta(days=1)
_FIRST = date(2026, 6, 23)
_FEW = [_FIRST + i * _DAY for i in range(4)]


def _read(path: Path) -> pd.DataFrame:
    with zipfile.ZipFile(path) as archive:
        assert archive.namelist() == [f"{path.stem}.csv"]
        return pd.read_csv(io.BytesIO(archive.read(f"{path.stem}.csv")))


def _tree(root: Path) -> dict[str, bytes]:
    return {str(p.relative_to(root)): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()}


def _violent_days(plan: DemoPlan) -> list[date]:
    return [DEMO_EPOCH + int(i) * _DAY for i in np.flatnonzero(plan.violent)]


def test_same_seed_same_bytes_in_any_order_and_company(tmp_path: Path) -> None:
    write_demo_days(tmp_path / "a", "ETHUSDT", _FEW)
    for day in reversed(_FEW):
        write_demo_days(tmp_path / "b", "ETHUSDT", [day])
    first = _tree(tmp_path / "a")
    assert first == _tree(tmp_path / "b")
    assert len(first) == 4 * len(_FEW) + 1

    write_demo_days(tmp_path / "c", "ETHUSDT", _FEW, seed=8)
    other = _tree(tmp_path / "c")
    assert other.keys() == first.keys()
    assert all(other[name] != first[name] for name in first if name != SIMULATED_MARKER)


def test_bytes_are_those_of_every_other_machine(tmp_path: Path) -> None:
    # Whoever changes the numbers on purpose raises the version in demo.py, so that files already written are renewed.
    sums = []
    for symbol in ("BTCUSDT", "BYBIT_BTCUSDT"):
        write_demo_days(tmp_path, symbol, [date(2026, 11, 5)])
        for path in (demo_files.candles_path, demo_files.metrics_path):
            sums.append(hashlib.sha256(path(tmp_path, symbol, date(2026, 11, 5)).read_bytes()).hexdigest()[:16])
    assert sums == ["dffd580d23661c74", "a337d14bcfccc54a", "0a0910d4beffe42a", "ed1925f0685811fb"]


def test_a_longer_plan_begins_with_the_shorter_one() -> None:
    short, long = simulate_plan("SOLUSDT", 100), simulate_plan("SOLUSDT", 1000)
    for name in ("price", "open_interest", "volatility", "move", "flush", "violent"):
        part = getattr(short, name)
        np.testing.assert_array_equal(part, getattr(long, name)[: len(part)])


def test_candles_are_consistent_on_the_tick_and_continuous_across_midnight(tmp_path: Path) -> None:
    for symbol, spec in DEMO_SYMBOLS.items():
        write_demo_days(tmp_path, symbol, _FEW)
        days = [_read(demo_files.candles_path(tmp_path, symbol, day)) for day in _FEW]
        table = pd.concat(days, ignore_index=True)
        assert [len(day) for day in days] == [288] * len(_FEW)
        start = int(pd.Timestamp(_FIRST).timestamp() * 1000)
        assert (table["open_time"] == start + 300_000 * np.arange(len(table))).all()
        assert (table["close_time"] == table["open_time"] + 299_999).all()
        assert (table["low"] <= table[["open", "close"]].min(axis=1)).all()
        assert (table["high"] >= table[["open", "close"]].max(axis=1)).all()
        assert (table["low"] > 0).all()
        ticks = table[["open", "high", "low", "close"]] * 10**spec.price_decimals
        assert (abs(ticks - ticks.round()) < 1e-4).all(axis=None)
        assert (abs(table["open"].iloc[1:].to_numpy() - table["close"].iloc[:-1].to_numpy()) < 1e-9).all()
        assert (table["volume"] > 0).all()
        assert table["taker_buy_volume"].between(0, table["volume"]).all()
        mean = table["quote_volume"] / table["volume"]
        assert mean.between(table["low"] * (1 - 1e-9), table["high"] * (1 + 1e-9)).all()
        assert (table["count"] >= 1).all()
        assert pd.api.types.is_integer_dtype(table["count"])
        rise = table["close"] / table["open"]
        assert np.corrcoef(rise, table["taker_buy_volume"] / table["volume"])[0, 1] > 0.25


def test_symbols_move_together() -> None:
    moves = []
    for symbol in ("BTCUSDT", "ETHUSDT"):
        plan = simulate_plan(symbol, 500)
        closes = np.concatenate([simulate_day(symbol, plan, DEMO_EPOCH + i * _DAY).candles[3] for i in range(490, 495)])
        moves.append(np.diff(np.log(closes)))
    assert 0.55 < np.corrcoef(*moves)[0, 1] < 0.95


def test_the_same_contract_on_two_exchanges_has_one_price_nearly_and_flows_of_its_own() -> None:
    days = {}
    for symbol in ("BTCUSDT", "BYBIT_BTCUSDT"):
        plan = simulate_plan(symbol, 540)
        days[symbol] = [simulate_day(symbol, plan, DEMO_EPOCH + i * _DAY) for i in range(500, 540)]
    (_, high, low, close), (_, other_high, other_low, other_close) = (
        np.hstack([one.candles[:4] for one in of]) for of in days.values()
    )
    apart = 1e4 * abs(np.log(close / other_close))
    assert 1 < np.median(apart) < 4
    assert 10 < apart.max() < 100, "wider where price moves fast"
    assert ((high > other_high).mean(), (low > other_low).mean()) == pytest.approx((0.5, 0.5), abs=0.1)
    first, second = (np.concatenate([one.contracts for one in of]) for of in days.values())
    for candles, least, most in ((1, 0.45, 0.55), (48, 0.4, 0.65)):
        same = np.sign(np.diff(first[::candles])) == np.sign(np.diff(second[::candles]))
        assert least < same.mean() < most, candles
    assert 2 < first.mean() / second.mean() < 3


def test_the_second_exchange_publishes_both_sides_added(tmp_path: Path) -> None:
    for symbol, counted in (("BTCUSDT", Counted.ONE), ("BYBIT_BTCUSDT", Counted.BOTH)):
        write_demo_days(tmp_path, symbol, _FEW)
        plan = simulate_plan(symbol, (_FEW[-1] - DEMO_EPOCH).days + 1)
        for day in _FEW:
            published = _read(demo_files.metrics_path(tmp_path, symbol, day))["sum_open_interest"].to_numpy()
            assert measure_sides(published).counted == counted, (symbol, day)
            np.testing.assert_allclose(
                published, simulate_day(symbol, plan, day).contracts * DEMO_SYMBOLS[symbol].sides
            )


@pytest.mark.parametrize("seed", [7, 1, 2])
def test_every_21_days_hold_a_violent_one(seed: int) -> None:
    plan = simulate_plan("BTCUSDT", 3 * 366, seed=seed)
    windows = np.convolve(plan.violent.astype(int), np.ones(21, dtype=int), mode="valid")
    assert windows.min() >= 1
    assert windows.max() <= 3


@pytest.mark.parametrize("symbol", ["BTCUSDT", "ETHUSDT"])
def test_violent_days_look_violent_and_flush_open_interest(symbol: str) -> None:
    plan = simulate_plan(symbol, 1100)
    busiest = []
    for day in _violent_days(plan)[::6]:
        made, before = simulate_day(symbol, plan, day), simulate_day(symbol, plan, day - _DAY)
        high, low, volume = made.candles[1], made.candles[2], made.candles[4]
        if plan.move[(day - DEMO_EPOCH).days] < 0:
            size = max(1 - low[k : k + 60].min() / high[k] for k in range(288))
        else:
            size = max(high[k : k + 60].max() / low[k] - 1 for k in range(288))
        assert 0.08 < size < 0.18, day
        # Real days this violent (2024-07-05) took 6 % of open interest from BTCUSDT and 11 % from ETHUSDT.
        i = (day - DEMO_EPOCH).days
        assert -0.15 < plan.open_interest[i + 1] - plan.open_interest[i] < -0.01, day
        assert 0.05 < 1 - made.contracts.min() / made.contracts[:24].mean() < 0.17, day
        three_hours = np.convolve(volume, np.ones(36) / 36, "valid").max()
        busiest.append(three_hours / np.median(before.candles[4]))
    assert 4 < np.median(busiest) < 10
    assert min(busiest) > 2


@pytest.mark.parametrize("symbol", list(DEMO_SYMBOLS))
def test_levels_stay_plausible_for_years(symbol: str) -> None:
    plan = simulate_plan(symbol, 6 * 365)
    assert np.ptp(plan.open_interest) < np.log(3)
    assert abs(plan.price - np.log(DEMO_SYMBOLS[symbol].price)).max() < 0.9
    assert 0.9 < (plan.volatility / DEMO_SYMBOLS[symbol].daily_volatility).mean() < 1.3
    quiet = plan.flush == 0
    assert np.diff(plan.open_interest)[quiet].mean() > 0.005


def test_price_of_bitcoin_keeps_its_band() -> None:
    price = np.exp(simulate_plan("BTCUSDT", 6 * 365).price)
    assert price.min() > 40_000
    assert price.max() < 140_000


def test_open_interest_has_the_noise_of_a_real_one() -> None:
    plan = simulate_plan("BTCUSDT", 1100)
    calm = [i for i in range(900, 1000) if plan.move[i] == 0][:10]
    noise = [np.diff(np.log(simulate_day("BTCUSDT", plan, DEMO_EPOCH + i * _DAY).contracts)).std() for i in calm]
    assert 0.0005 < float(np.median(noise)) < 0.0011


@pytest.mark.parametrize("symbol", ["BTCUSDT", "DOGEUSDT"])
def test_labels_change_their_meaning_on_the_day_the_archive_did(symbol: str, tmp_path: Path) -> None:
    days = [date(2024, 2, 29), *_FEW, date(2026, 12, 31)]
    write_demo_days(tmp_path, symbol, days)
    for day in days:
        table = _read(demo_files.metrics_path(tmp_path, symbol, day))
        labels = pd.to_datetime(table["create_time"])
        first = pd.Timestamp(day) + pd.Timedelta(minutes=0 if day >= date(2026, 6, 25) else 5)
        assert (labels == pd.date_range(first, periods=288, freq="5min")).all()
        assert (table["symbol"] == symbol).all()
        assert (table["sum_open_interest"] > 0).all()
        assert table.iloc[:, 4:].isna().all(axis=None)
        # The implied price fits the close of the candle that ends at the instant, clearly better than its neighbour.
        implied = (table["sum_open_interest_value"] / table["sum_open_interest"]).to_numpy()
        close = _read(demo_files.candles_path(tmp_path, symbol, day))["close"].to_numpy()
        right, wrong = abs(implied - close).mean(), abs(implied[1:] - close[:-1]).mean()
        assert right < 0.5 * wrong, day


def test_the_reader_finds_nothing_to_repair_and_can_measure_the_clock(tmp_path: Path) -> None:
    reader = ArchiveReader(tmp_path)
    for symbol in DEMO_SYMBOLS:
        write_demo_days(tmp_path, symbol, _FEW)
        for day in _FEW:
            candles = reader.read_candles(symbol, day, 300)
            samples = reader.read_open_interest(symbol, day, candles.table, 300)
            assert (len(candles.table), len(samples.table)) == (288, 288)
            assert candles.repairs == samples.repairs == {}
            assert samples.facts["clock"]["rule"] == "price"
            assert samples.table["snapshot_time"].iloc[-1].date() == day + _DAY


def test_checksums_fit_and_everything_says_simulated(tmp_path: Path) -> None:
    written = write_demo_days(tmp_path, "BTCUSDT", _FEW[:1])
    assert written == [
        tmp_path / "futures/um/daily/klines/BTCUSDT/5m/BTCUSDT-5m-2026-06-23.zip",
        tmp_path / "futures/um/daily/metrics/BTCUSDT/BTCUSDT-metrics-2026-06-23.zip",
    ]
    for path in written:
        digest, name = path.with_name(f"{path.name}.CHECKSUM").read_text().split()
        assert digest == hashlib.sha256(path.read_bytes()).hexdigest()
        assert name == path.name
        with zipfile.ZipFile(path) as archive:
            assert archive.comment.startswith(b"SIMULATED")
    assert "made up" in (tmp_path / "SIMULATED.txt").read_text()


def test_whole_files_are_left_alone_and_others_are_mended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[date] = []
    candles, metrics = write_demo_days(tmp_path, "BTCUSDT", _FEW[:1], on_day=seen.append)
    whole = _tree(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(demo, "simulate_day", lambda *_, **__: pytest.fail("nothing was missing"))
        assert write_demo_days(tmp_path, "BTCUSDT", _FEW[:1], on_day=seen.append) == []
    assert seen == _FEW[:1] * 2

    for damage in (
        lambda: candles.write_bytes(candles.read_bytes()[:-7]),
        lambda: metrics.with_name(f"{metrics.name}.CHECKSUM").unlink(),
        metrics.unlink,
        lambda: candles.with_name(f"{candles.name}.CHECKSUM").write_bytes(b"\xff"),
        lambda: write_demo_days(tmp_path, "BTCUSDT", _FEW[:1], seed=9),
    ):
        damage()
        assert write_demo_days(tmp_path, "BTCUSDT", _FEW[:1]) == [candles, metrics]
        assert _tree(tmp_path) == whole


def test_an_interrupted_write_is_never_visible(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_bytes = Path.write_bytes

    def half(self: Path, data: bytes) -> int:
        if self.name.startswith(".BTCUSDT-5m"):
            write_bytes(self, data[: len(data) // 2])
            raise OSError(28, "No space left on device")
        return write_bytes(self, data)

    monkeypatch.setattr(Path, "write_bytes", half)
    with pytest.raises(MarketError, match=r"BTCUSDT-5m-2026-06-23\.zip: No space left on device"):
        write_demo_days(tmp_path, "BTCUSDT", _FEW[:1])
    assert list(_tree(tmp_path)) == ["SIMULATED.txt"]

    monkeypatch.undo()
    replaced: list[str] = []
    replace = Path.replace

    def replace_and_say(self: Path, to: Path) -> Path:
        replaced.append(to.name)
        return replace(self, to)

    monkeypatch.setattr(Path, "replace", replace_and_say)
    write_demo_days(tmp_path, "BTCUSDT", _FEW[:1])
    name, other = "BTCUSDT-5m-2026-06-23.zip", "BTCUSDT-metrics-2026-06-23.zip"
    assert replaced == [name, f"{name}.CHECKSUM", other, f"{other}.CHECKSUM"]


def test_refuses_what_it_cannot_do(tmp_path: Path) -> None:
    with pytest.raises(MarketError, match="'XRPUSDT'; it knows BTCUSDT, ETHUSDT, SOLUSDT, DOGEUSDT"):
        write_demo_days(tmp_path, "XRPUSDT", _FEW)
    with pytest.raises(MarketError, match="begins on 2024-01-01; 2023-12-31 is before it"):
        write_demo_days(tmp_path, "BTCUSDT", [*_FEW, date(2023, 12, 31)])
    with pytest.raises(MarketError, match="seed -1 is negative"):
        write_demo_days(tmp_path, "BTCUSDT", _FEW, seed=-1)
    assert write_demo_days(tmp_path, "BTCUSDT", []) == []
    assert _tree(tmp_path) == {}

    (tmp_path / "file").write_text("")
    with pytest.raises(MarketError, match="needs a folder it may write to"):
        write_demo_days(tmp_path / "file", "BTCUSDT", _FEW)


def test_never_writes_among_real_files(tmp_path: Path) -> None:
    real = demo_files.candles_path(tmp_path, "BTCUSDT", _FEW[0])
    real.parent.mkdir(parents=True)
    real.write_bytes(b"real")
    with pytest.raises(MarketError, match="did not write"):
        write_demo_days(tmp_path, "BTCUSDT", _FEW)
    assert list(_tree(tmp_path).values()) == [b"real"]


def test_first_day_of_the_epoch_can_be_had(tmp_path: Path) -> None:
    assert len(write_demo_days(tmp_path, "DOGEUSDT", [DEMO_EPOCH, DEMO_EPOCH])) == 2
