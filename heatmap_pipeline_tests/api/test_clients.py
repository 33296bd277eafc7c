"""Whom a request counts for, with and without proxies in front."""

from __future__ import annotations

import pytest

from heatmap_pipeline.api.clients import Proxies, client_of

HERE, PROXY = "192.0.2.7", "10.0.0.1"


@pytest.mark.parametrize(
    ("address", "client"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("192.0.2.7:4711", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:0:1::7", "2001:db8:0:1::"),
        ("2001:db8:0:1:ffff::", "2001:db8:0:1::"),
        ("[2001:db8:0:1::7]:4711", "2001:db8:0:1::"),
        ("fe80::7%eth0", "fe80::"),
        ("unknown", "unknown"),
        ("x" * 9000, "x" * 100),
        ("", ""),
        (None, ""),
    ],
)
def test_a_client_is_an_address_or_a_network_of_64_bits(address: str | None, client: str) -> None:
    assert client_of(address) == client


@pytest.mark.parametrize(
    ("proxies", "connection", "forwarded", "asker"),
    [
        pytest.param([], HERE, ["192.0.2.66"], HERE, id="nobody is trusted"),
        pytest.param([], "127.0.0.1", ["192.0.2.66"], "127.0.0.1", id="not even this machine"),
        pytest.param(["10.0.0.0/8"], HERE, ["192.0.2.66"], HERE, id="not from elsewhere"),
        pytest.param(["10.0.0.0/8"], PROXY, ["192.0.2.66"], "192.0.2.66", id="the proxy's word"),
        pytest.param(["10.0.0.7/8"], PROXY, ["192.0.2.66"], "192.0.2.66", id="a network by one of its addresses"),
        pytest.param(["10.0.0.0/8"], PROXY, ["1.2.3.4, 192.0.2.66"], "192.0.2.66", id="not what stood there before"),
        pytest.param(["10.0.0.0/8"], PROXY, ["1.2.3.4", "192.0.2.66,10.9.9.9"], "192.0.2.66", id="two proxies"),
        pytest.param(["10.0.0.0/8"], PROXY, ["2001:db8::7"], "2001:db8::", id="one machine has 64 bits"),
        pytest.param(["10.0.0.0/8"], PROXY, [], PROXY, id="it says nothing"),
        pytest.param(["10.0.0.0/8"], PROXY, [" , "], PROXY, id="it says nothing at length"),
        pytest.param(["10.0.0.0/8"], PROXY, ["10.0.0.2"], PROXY, id="it asks for itself"),
        pytest.param(["10.0.0.0/8"], PROXY, ["\xff<script>"], "\xff<script>", id="it says nonsense"),
        pytest.param(["::1", "10.0.0.1"], "::ffff:10.0.0.1", ["192.0.2.66"], "192.0.2.66", id="both kinds of address"),
    ],
)
def test_only_trusted_proxies_are_believed(
    proxies: list[str], connection: str, forwarded: list[str], asker: str
) -> None:
    headers = [(b"host", b"h"), *((b"x-forwarded-for", value.encode("latin-1")) for value in forwarded)]
    assert client_of(Proxies(proxies).speaker(connection, headers)) == asker
