// Calls `echo.echo` with mqtt.js as it comes, one call after the other. Reads and answers as paho_caller.py does.
"use strict";
const mqtt = require("mqtt");

const TEXT = JSON.stringify("x".repeat(60));
const PATIENCE = 10_000;

function caller(port, qos) {
  const clientId = `mqttjs-${process.pid}`;
  const reply = `rantai/reply/echo/${clientId}`;
  const client = mqtt.connect(`mqtt://127.0.0.1:${port}`, { protocolVersion: 5, clientId });
  let waiting;
  client.on("message", (_topic, payload, packet) => waiting(payload.toString(), packet.properties.correlationData));
  const call = (number) =>
    new Promise((resolve, reject) => {
      const correlationData = Buffer.alloc(16);
      correlationData.writeUInt32BE(number, 12);
      const timer = setTimeout(() => reject(new Error("no answer in time")), PATIENCE);
      waiting = (payload, correlation) => {
        clearTimeout(timer);
        if (payload === TEXT && correlation.equals(correlationData)) resolve();
        else reject(new Error(`another answer came: ${payload}`));
      };
      client.publish("rantai/call/echo/echo", TEXT, { qos, properties: { responseTopic: reply, correlationData } });
    });
  return new Promise((resolve, reject) => {
    client.on("error", reject);
    client.on("connect", () =>
      client.subscribe(reply, { qos }, (error) => (error ? reject(error) : resolve({ call, client }))),
    );
  });
}

async function measure(port, qos, warmUp, length) {
  const { call, client } = await caller(port, qos);
  let made = 0;
  const times = [];
  const counted = process.hrtime.bigint() + BigInt(Math.round(warmUp * 1e9));
  const end = counted + BigInt(Math.round(length * 1e9));
  for (let began; (began = process.hrtime.bigint()) < end; ) {
    await call(made);
    made += 1;
    const ended = process.hrtime.bigint();
    if (ended >= counted && ended < end) times.push(ended - began);
  }
  await client.endAsync();
  return { made, times };
}

async function main() {
  const lines = require("node:readline").createInterface({ input: process.stdin });
  process.stderr.write("reading\n");
  for await (const line of lines) {
    const [port, qos, warmUp, length] = line.split(" ").map(Number);
    const { made, times } = await measure(port, qos, warmUp, length);
    process.stdout.write(`${made} ${times.length}\n`);
    process.stdout.write(new Uint8Array(BigUint64Array.from(times).buffer));
  }
}

main().catch((error) => {
  process.stderr.write(`${error.stack}\n`);
  process.exit(1);
});
