#!/usr/bin/env python3
"""uWebSockets, through socketify. The congestion control is the machine's."""

import argparse

from socketify import App, AppListenOptions, CompressOptions, OpCode

IDLE_SECONDS = 600


def echo(ws, message, opcode):
    ws.send(message, opcode)


def room(ws, message, opcode):
    if opcode == OpCode.TEXT and message.startswith("!"):
        app.publish("room", message, OpCode.TEXT)


parser = argparse.ArgumentParser()
parser.add_argument("--addr", default="127.0.0.1:8080")
parser.add_argument("--workers")
parser.add_argument("--congestion")
host, port = parser.parse_args().addr.split(":")
app = App()
settings = {"compression": CompressOptions.DISABLED, "idle_timeout": IDLE_SECONDS,
            "max_payload_length": 16 << 20, "send_pings_automatically": False}
app.ws("/echo", {**settings, "message": echo})
app.ws("/room", {**settings, "open": lambda ws: ws.subscribe("room"), "message": room})
app.listen(AppListenOptions(port=int(port), host=host), lambda config: None)
app.run()
