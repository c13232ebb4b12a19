"""Speaks with the echo server by the clients of websockets and of aiohttp: client.py PORT."""

import asyncio
import os
import sys

import aiohttp
import websockets
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory as Factory

URL = f"ws://127.0.0.1:{sys.argv[1]}/"
TEXT = "caf\u00e9 \u20ac \U0001f600 "
NOISE = os.urandom(1 << 20)
MESSAGES = ["", b"", "a", b"a", TEXT, TEXT * 1000, bytes(range(256)) * 5, NOISE, "x" * (1 << 20), "", ""]
MANY = 10_000


def is_same(found, wanted):
    assert type(found) is type(wanted) and found == wanted, f"{found[:60]!r} for {wanted[:60]!r}"


async def of_websockets(name, extensions, compression=None):
    def connect(**more):
        return websockets.connect(
            URL, extensions=extensions, compression=compression, max_size=1 << 25, **more)

    async with connect() as ws:
        print(f"websockets, {name}: {ws.response.headers.get('sec-websocket-extensions')}")
        for message in MESSAGES:
            await ws.send(message)
            is_same(await ws.recv(), message)
        pieces = [f"{at} {TEXT}" for at in range(300)]
        await ws.send(iter(pieces))
        is_same(await ws.recv(), "".join(pieces))
        await ws.send(piece.encode() for piece in pieces)
        is_same(await ws.recv(), "".join(pieces).encode())
        for payload in (b"", b"are you there?", b"p" * 125):
            await asyncio.wait_for(await ws.ping(payload), 5)

        async def pour():
            for at in range(MANY):
                await ws.send(f"message {at}" * (1 + at % 40))

        pouring = asyncio.create_task(pour())
        for at in range(MANY):
            is_same(await ws.recv(), f"message {at}" * (1 + at % 40))
        await pouring
    assert ws.close_code == 1000, ws.close_code
    for code, reason in ((1000, "bye"), (1001, ""), (3000, "r" * 123), (4999, TEXT), (1011, "")):
        async with connect() as ws:
            await ws.close(code, reason)
            assert ws.protocol.close_rcvd.code == code, (code, ws.protocol.close_rcvd)
    async with connect() as ws:
        await ws.send(bytes(16 << 20))
        is_same(await ws.recv(), bytes(16 << 20))
        await ws.send(os.urandom(16 << 20))
        assert len(await ws.recv()) == 16 << 20
    ws = await connect()
    await ws.send(bytes((16 << 20) + 1))
    try:
        await ws.recv()
    except websockets.ConnectionClosed as closed:
        assert closed.rcvd.code == 1009, closed
    else:
        raise AssertionError("more than 16 MiB came back")
    # Nothing of what is offered is spoken: the connection has no subprotocol.
    async with connect(subprotocols=["chat.v1"]) as ws:
        assert ws.subprotocol is None


async def of_aiohttp(compress):
    async with aiohttp.ClientSession() as session:
        async with session.ws_connect(URL, compress=compress, max_msg_size=1 << 25) as ws:
            print(f"aiohttp, window of {compress} bits: compressed with {ws.compress}")
            for message in MESSAGES:
                await (ws.send_str if isinstance(message, str) else ws.send_bytes)(message)
                is_same((await ws.receive()).data, message)
            await ws.ping(b"there?")
            for at in range(MANY // 10):
                await ws.send_str(f"message {at}" * 40)
            for at in range(MANY // 10):
                is_same((await ws.receive()).data, f"message {at}" * 40)
            await ws.close(code=4000, message=b"bye")
            assert ws.close_code == 4000, ws.close_code
        async with session.ws_connect(URL, protocols=["chat.v1"]) as ws:
            assert ws.protocol is None


async def main():
    await of_websockets("plain", None)
    await of_websockets("its defaults", None, "deflate")
    none = {"server_no_context_takeover": True, "client_no_context_takeover": True}
    await of_websockets("no takeover", [Factory(**none)])
    await of_websockets("windows of 9 bits", [Factory(server_max_window_bits=9, client_max_window_bits=9)])
    await of_websockets("both kept", [Factory()])
    for compress in (0, 15, 10):
        await of_aiohttp(compress)


asyncio.run(main())
