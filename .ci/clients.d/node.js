#!/usr/bin/env node
// Checks with @grpc/grpc-js and @grpc/proto-loader: all kinds of calls, details, deadlines, cancellation, offsets, presence.
'use strict';

const assert = require('node:assert');
const { execFileSync, spawn } = require('node:child_process');
const fs = require('node:fs');
const os = require('node:os');
const path = require('node:path');
const grpc = require('@grpc/grpc-js');
const loader = require('@grpc/proto-loader');

const root = path.resolve(__dirname, '../..');
const article = 'Le chef d’état-major algérien est arrivé lundi à Niamey. Les deux armées ont signé un accord de formation.';
const slowBatch = { articles: Array(1000).fill({ text: article.repeat(130) }) };
const smallBatch = { articles: [{ text: article }] };

// A server with one worker and no queue, so that a second batch is refused: the process, and where it listens.
async function serve() {
  const args = ['serve', '--listen', '127.0.0.1:0', '--admin-listen', '127.0.0.1:0', '--workers', '1', '--queue', '0', '--max-response-bytes', '100000000'];
  const server = spawn(path.join(root, 'target/release/depeche'), args, { stdio: ['ignore', 'ignore', 'pipe'] });
  process.on('exit', () => server.kill('SIGKILL'));
  let log = '';
  for await (const piece of server.stderr.iterator({ destroyOnReturn: false })) {
    log += piece;
    if (log.includes(' ready address=')) break;
  }
  server.stderr.resume();
  const addressOf = (what) => log.match(new RegExp(` ${what} address=(\\S+)`))[1];
  return { server, address: addressOf('ready'), admin: addressOf('admin listener') };
}

// The services and messages of a file, as the server's reflection describes them.
function described(address, symbol) {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'protoset-'));
  const file = path.join(folder, 'protoset');
  execFileSync('grpcurl', ['-plaintext', '-protoset-out', file, address, 'describe', symbol]);
  const options = { keepCase: true, enums: String, oneofs: true, defaults: false };
  const loaded = loader.loadFileDescriptorSetFromBuffer(fs.readFileSync(file), options);
  fs.rmSync(folder, { recursive: true });
  return loaded;
}

let passed = 0;
let failed = 0;

async function check(name, body) {
  try {
    await body();
    passed += 1;
    console.log(`ok: ${name}`);
  } catch (error) {
    failed += 1;
    console.log(`FAILED: ${name}; seen:\n${error.stack}`);
  }
}

async function main() {
  const { server, address, admin } = await serve();
  const protos = described(address, 'depeche.v1.ClassifierService');
  const rpc = { ...described(address, 'google.rpc.BadRequest'), ...described(address, 'google.rpc.Status') };
  const options = { 'grpc.max_receive_message_length': -1 };
  const credentials = grpc.credentials.createInsecure();
  const client = new (grpc.loadPackageDefinition(protos).depeche.v1.ClassifierService)(address, credentials, options);

  // A call as a promise, and the call itself, to be cancelled.
  const begin = (method, request, metadata = new grpc.Metadata(), callOptions = {}) => {
    let call;
    const answer = new Promise((resolve, reject) => {
      call = client[method](request, metadata, callOptions, (error, response) => (error ? reject(error) : resolve(response)));
    });
    return { call, answer };
  };
  const send = (...args) => begin(...args).answer;
  const errorOf = (answer) => answer.then(() => assert.fail('the call was answered'), (error) => error);
  const detailsOf = (error) => {
    const status = rpc['google.rpc.Status'].deserialize(error.metadata.get('grpc-status-details-bin')[0]);
    return Object.fromEntries(status.details.map(({ type_url, value }) => {
      const name = type_url.split('/')[1];
      return [name, rpc[name].deserialize(value)];
    }));
  };

  await check('Classify', async () => {
    const response = await send('Classify', { article: { text: article } });
    assert.strictEqual(response.topic.label, 'military_cooperation');
  });

  await check('StreamClassify', async () => {
    const call = client.StreamClassify();
    const answers = [];
    const ended = new Promise((resolve, reject) => call.on('data', (answer) => answers.push(answer)).on('end', resolve).on('error', reject));
    for (const [id, text] of [['a', article], ['b', ''], ['c', 'Un mot.']]) call.write({ article: { article_id: id, text } });
    call.end();
    await ended;
    assert.deepStrictEqual(answers.map((answer) => [answer.article_id, answer.outcome]), [['a', 'response'], ['b', 'error'], ['c', 'response']]);
  });

  await check('details are decoded', async () => {
    const error = await errorOf(send('BatchClassify', { articles: [{ text: article }, { text: ' ' }] }));
    assert.strictEqual(error.code, grpc.status.INVALID_ARGUMENT);
    const details = detailsOf(error);
    assert.deepStrictEqual(details['google.rpc.BadRequest'].field_violations.map(({ field }) => field), ['articles[1].text']);
    assert.strictEqual(details['google.rpc.ErrorInfo'].reason, 'INVALID_ARGUMENT');
  });

  await check("offsets in units of UTF-16 cut JavaScript's strings", async () => {
    const lines = ['Lire aussi : le prix du mil recule 😀 à Zinder', `😀 𝒳 ${article}`];
    const text = lines.join('\n');
    const response = await send('Classify', { article: { text }, options: { offset_encoding: 'OFFSET_ENCODING_UTF16', max_contributions: 1000 } });
    assert.deepStrictEqual(response.passages.map(({ begin, end }) => text.slice(begin, end)), lines);
    const words = response.topic.contributions.filter(({ block }) => block === 'word').flatMap(({ term, occurrences }) =>
      occurrences.map(({ begin, end }) => [term, text.slice(begin, end)]));
    assert.ok(words.length > 5, JSON.stringify(words));
    for (const [term, found] of words) assert.strictEqual(found.length, term.length, `${term}, ${found}`);
  });

  await check('a zero that is present is told from one that is absent', async () => {
    const response = await send('Classify', { article: { text: article } });
    assert.ok(Object.hasOwn(response.passages[0], 'begin'), JSON.stringify(response.passages[0]));
    assert.strictEqual(response.passages[0].begin, 0);
    // No presence: not sent, so not there.
    assert.ok(!Object.hasOwn(response, 'article_id'), response.article_id);
  });

  await check('compressed calls', async () => {
    const packed = new (grpc.loadPackageDefinition(protos).depeche.v1.ClassifierService)(address, credentials, {
      'grpc.default_compression_algorithm': grpc.compressionAlgorithms.gzip,
    });
    const response = await new Promise((resolve, reject) =>
      packed.BatchClassify({ articles: Array(50).fill({ text: article }) }, (error, found) => (error ? reject(error) : resolve(found))));
    assert.strictEqual(response.responses.length, 50);
    packed.close();
  });

  const started = Date.now();
  await send('BatchClassify', slowBatch);
  const whole = Date.now() - started;

  // A slow batch that has got the worker, and the refusal of another meanwhile.
  const beginSlow = async () => {
    for (;;) {
      const slow = begin('BatchClassify', slowBatch);
      const ended = errorOf(slow.answer);
      for (;;) {
        const probe = await Promise.race([send('BatchClassify', smallBatch).then(() => null, (refused) => ({ refused })), ended.then(() => 'ended')]);
        if (probe === 'ended') break;
        if (probe) return { ...slow, ended, refused: probe.refused };
      }
    }
  };
  const untilFree = async () => {
    const begun = Date.now();
    while (await send('BatchClassify', smallBatch).then(() => false, () => true));
    return Date.now() - begun;
  };
  const counted = async (...codes) => {
    const scrape = await (await fetch(`http://${admin}/metrics`)).text();
    const lines = scrape.split('\n').filter((line) => line.startsWith('rpc_server_call_duration_seconds_count') && line.includes('BatchClassify"'));
    return lines.filter((line) => codes.some((code) => line.includes(`code="${code}"`))).reduce((sum, line) => sum + Number(line.split(' ').pop()), 0);
  };

  await check('a cancelled batch frees its worker; overload has RetryInfo', async () => {
    const before = await counted('CANCELLED');
    const slow = await beginSlow();
    slow.call.cancel();
    assert.strictEqual((await slow.ended).code, grpc.status.CANCELLED);
    const freed = await untilFree();
    assert.ok(freed < whole / 2, `freed after ${freed} ms; the batch takes ${whole} ms`);
    assert.strictEqual(await counted('CANCELLED'), before + 1);
    assert.strictEqual(slow.refused.code, grpc.status.RESOURCE_EXHAUSTED);
    assert.ok(detailsOf(slow.refused)['google.rpc.RetryInfo'].retry_delay.nanos > 0);
  });

  await check('a batch over its deadline frees its worker', async () => {
    const codes = ['DEADLINE_EXCEEDED', 'CANCELLED'];
    const before = await counted(...codes);
    const error = await errorOf(send('BatchClassify', slowBatch, new grpc.Metadata(), { deadline: Date.now() + whole / 3 }));
    assert.strictEqual(error.code, grpc.status.DEADLINE_EXCEEDED);
    const freed = await untilFree();
    assert.ok(freed < whole / 2, `freed after ${freed} ms; the batch takes ${whole} ms`);
    assert.strictEqual(await counted(...codes), before + 1);
  });

  client.close();
  console.log(`${passed} passed, ${failed} failed`);
  server.kill('SIGKILL');
  process.exitCode = failed ? 1 : 0;
}

main();
