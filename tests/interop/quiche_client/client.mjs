// One stream to a gateway over quiche and BoringSSL.
//
//   node client.mjs HOST:PORT SERVER_NAME CA_FILE [CHAIN_FILE KEY_FILE]
//
// Each line of stdin is the hex of one frame's bytes; the end of stdin ends our side of the stream.
// Each line of stdout is a JSON object that tells what was seen:
//
//   {"saw": "connected"}              the handshake is done: the server is who it should be
//   {"saw": "frame", "hex": ...}      a frame came
//   {"saw": "end"}                    the server ended its side of the stream
//   {"saw": "reset", "code": n}       the server broke the stream off
//   {"saw": "closed", "by": "peer" or "local", "app": bool, "code": n, "reason": ...}
//                                     the connection was closed, with this error
//   {"saw": "lost", "error": ...}     the connection ended in another way: by silence, say
//
// It ends when the connection has, or both sides of the stream: with exit code 0, or with 2 after a
// wrong call.

import { randomFillSync } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { createInterface } from 'node:readline';
import Logger, { LogLevel } from '@matrixai/logger';
import { QUICClient, errors, events } from '@matrixai/quic';

const ALPN = 'palyra-quic-v1';
const HANDSHAKE_MS = 10_000;
const IDLE_MS = 30_000;
const KEEP_ALIVE_MS = 5_000;
const PREFIX_BYTES = 4;

// A pipe is written to before write() returns, so nothing is left behind at exit.
function see(saw, facts = {}) {
  process.stdout.write(JSON.stringify({ saw, ...facts }) + '\n');
}

function seeEnd(error) {
  const byPeer =
    error instanceof errors.ErrorQUICConnectionPeer ||
    error instanceof errors.ErrorQUICConnectionPeerTLS;
  if (!byPeer && !(error instanceof errors.ErrorQUICConnectionLocal)) {
    see('lost', { error: `${error.constructor.name}: ${error.message}` });
    return;
  }
  const { isApp, errorCode, reason } = error.data;
  see('closed', {
    by: byPeer ? 'peer' : 'local',
    app: isApp,
    code: errorCode,
    reason: Buffer.from(reason).toString(),
  });
}

function connect(address, serverName, caFile, chainFile, keyFile) {
  const [host, port] = address.split(':');
  const identity = chainFile
    ? { cert: readFileSync(chainFile, 'utf8'), key: readFileSync(keyFile, 'utf8') }
    : {};
  return QUICClient.createQUICClient(
    {
      host,
      port: Number(port),
      localHost: '0.0.0.0',
      serverName,
      crypto: { ops: { randomBytes: async (bytes) => randomFillSync(new Uint8Array(bytes)) } },
      config: {
        ...identity,
        ca: readFileSync(caFile, 'utf8'),
        verifyPeer: true,
        applicationProtos: [ALPN],
        enableEarlyData: false,
        maxIdleTimeout: IDLE_MS,
        keepAliveIntervalTime: KEEP_ALIVE_MS,
        readableChunkSize: 65_536,
      },
      codeToReason: (_, resetCode) => Object.assign(new Error(), { resetCode }),
      logger: new Logger('client', LogLevel.SILENT),
    },
    { timer: HANDSHAKE_MS },
  );
}

async function say(writable) {
  const writer = writable.getWriter();
  const unheard = () => {}; // what cannot be said any more is told by the side that hears
  for await (const line of createInterface({ input: process.stdin })) {
    const bytes = Buffer.from(line, 'hex');
    const prefix = Buffer.alloc(PREFIX_BYTES);
    prefix.writeUInt32BE(bytes.length);
    await writer.write(Buffer.concat([prefix, bytes])).catch(unheard);
  }
  await writer.close().catch(unheard);
}

async function hear(readable) {
  let kept = Buffer.alloc(0);
  for await (const chunk of readable) {
    kept = Buffer.concat([kept, chunk]);
    while (kept.length >= PREFIX_BYTES) {
      const end = PREFIX_BYTES + kept.readUInt32BE();
      if (kept.length < end) break;
      see('frame', { hex: kept.toString('hex', PREFIX_BYTES, end) });
      kept = kept.subarray(end);
    }
  }
}

async function converse(connection) {
  const closed = new Promise((resolve) => {
    const name = events.EventQUICConnectionClose.name;
    connection.addEventListener(name, (event) => resolve(event.detail));
  }).then(seeEnd);
  const stream = connection.newStream();
  const heard = hear(stream.readable).then(
    () => see('end'),
    ({ resetCode }) => (resetCode === undefined ? closed : see('reset', { code: resetCode })),
  );
  await Promise.race([closed, Promise.all([heard, say(stream.writable)])]);
}

async function main(address, ...files) {
  try {
    const client = await connect(address, ...files);
    see('connected');
    await converse(client.connection);
    await client.destroy();
  } catch (error) {
    seeEnd(error);
  }
}

const given = process.argv.slice(2);
if (given.length !== 3 && given.length !== 5) {
  console.error('node client.mjs HOST:PORT SERVER_NAME CA_FILE [CHAIN_FILE KEY_FILE]');
  process.exit(2);
}
await main(...given);
process.exit(0);
