// Speaks with the echo server by the client of npm's ws: node client.js PORT.

const assert = require("node:assert");
const { randomBytes } = require("node:crypto");
const WebSocket = require("ws");

const url = `ws://127.0.0.1:${process.argv[2]}/`;
const text = "caf\u00e9 \u20ac \u{1f600} ";
const many = 10_000;
const seconds = 60;
setTimeout(() => assert.fail(`not done after ${seconds} s`), seconds * 1_000).unref();

// Messages in the order in which they come.
async function open(options, protocols = []) {
    const ws = new WebSocket(url, protocols, { maxPayload: 1 << 25, ...options });
    const come = [], waiting = [];
    ws.on("message", (data, isBinary) => {
        const message = isBinary ? data : data.toString();
        waiting.length > 0 ? waiting.shift()(message) : come.push(message);
    });
    ws.closed = new Promise((done) => ws.on("close", (code, why) => done([code, why.toString()])));
    ws.on("error", (error) => assert.fail(error));
    ws.next = () => come.length > 0 ? come.shift() : new Promise((done) => waiting.push(done));
    await new Promise((done) => ws.on("open", done));
    return ws;
}

async function run(name, perMessageDeflate) {
    const options = { perMessageDeflate };
    let ws = await open(options);
    console.log(`ws, ${name}: ${ws.extensions || "plain"}`);
    const noise = randomBytes(1 << 20);
    const messages = ["", Buffer.alloc(0), "a", text, text.repeat(1_000), noise, "x".repeat(1 << 20), "", ""];
    for (const message of messages) {
        ws.send(message);
        assert.deepStrictEqual(await ws.next(), message);
    }
    for (const compress of [true, false]) {
        for (let at = 0; at < 300; at++) {
            ws.send(`${at} ${text}`, { fin: at === 299, compress });
            if (at % 100 === 50) ws.ping("between");
        }
        const wanted = Array.from({ length: 300 }, (_, at) => `${at} ${text}`).join("");
        assert.strictEqual(await ws.next(), wanted);
    }
    for (const payload of ["", "there?", "p".repeat(125)]) {
        const pong = new Promise((done) => ws.once("pong", done));
        ws.ping(payload);
        assert.strictEqual((await pong).toString(), payload);
    }
    for (let at = 0; at < many; at++) ws.send(`message ${at}`.repeat(1 + at % 40));
    for (let at = 0; at < many; at++) assert.strictEqual(await ws.next(), `message ${at}`.repeat(1 + at % 40));
    ws.close(1000, "bye");
    assert.deepStrictEqual(await ws.closed, [1000, ""]);
    for (const code of [1001, 3000, 4999]) {
        ws = await open(options);
        ws.close(code, "r".repeat(123));
        assert.strictEqual((await ws.closed)[0], code);
    }
    ws = await open(options);
    ws.close();
    assert.strictEqual((await ws.closed)[0], 1005);
    ws = await open(options);
    ws.send(Buffer.alloc((16 << 20) + 1));
    assert.strictEqual((await ws.closed)[0], 1009);
    // No subprotocol is spoken there: this client gives up by itself.
    const refused = new WebSocket(url, ["chat.v1"], options);
    const [error] = await new Promise((done) => refused.on("error", (...it) => done(it)));
    assert.match(error.message, /no subprotocol/);
}

async function main() {
    await run("plain", false);
    await run("its defaults", true);
    await run("all compressed", { threshold: 0 });
    const none = { clientNoContextTakeover: true, serverNoContextTakeover: true };
    await run("no takeover", { threshold: 0, ...none });
    await run("windows of 9 bits", { threshold: 0, clientMaxWindowBits: 9, serverMaxWindowBits: 9 });
    process.exit(0);
}

main();
