// The official JavaScript packages: openai, @anthropic-ai/sdk, @google/genai. Where the gateway is, and which key it
// takes, comes in TOLLGATE_URL and TOLLGATE_KEY; where the packages are, in TOLLGATE_NPM. The last line counts.
import { createRequire } from 'node:module';
import { pathToFileURL } from 'node:url';
import path from 'node:path';

const { TOLLGATE_URL: url, TOLLGATE_KEY: key, TOLLGATE_NPM: npm } = process.env;
const require = createRequire(path.join(npm, 'package.json'));
const load = async (name) => import(pathToFileURL(require.resolve(name)).href);
const { default: OpenAI } = await load('openai');
const { default: Anthropic } = await load('@anthropic-ai/sdk');
const { GoogleGenAI, ApiError } = await load('@google/genai');

const checks = [];
const check = (name, run) => checks.push([name, run]);
const same = (got, expected, rule) => {
  if (got !== expected) throw new Error(`${rule}: ${JSON.stringify(got)} is not ${JSON.stringify(expected)}`);
};
const yes = (condition, rule) => {
  if (!condition) throw new Error(rule);
};
const fails = async (kind, status, run) => {
  let got;
  try {
    got = await run();
  } catch (error) {
    if (!(error instanceof kind)) throw new Error(`${error?.constructor?.name} instead of ${kind.name}: ${error}`);
    if (status && error.status !== status) throw new Error(`status ${error.status} instead of ${status}: ${error}`);
    return error;
  }
  throw new Error(`no ${kind.name}, but ${JSON.stringify(got)}`);
};
const all = async (stream) => {
  const items = [];
  for await (const item of await stream) items.push(item);
  return items;
};

const HELLO = 'Hello from the SDK';
const FAULTS = ['cut:3', 'stop:3', 'error:3'];
const WHOLE_FAULTS = ['cut:0', 'reset', 'garbage', 'error:0'];
const schema = { type: 'object', properties: { city: { type: 'string' } }, required: ['city'] };

// ---- openai
{
  const connect = (apiKey) => new OpenAI({ apiKey, baseURL: `${url}/v1`, maxRetries: 0, timeout: 30_000 });
  const client = connect(key);
  const hello = [{ role: 'user', content: HELLO }];
  const tools = [{ type: 'function', function: { name: 'weather', parameters: schema } }];
  const chat = (model, more = {}, c = client) => c.chat.completions.create({ model, messages: hello, ...more });
  const respond = (model, more = {}, c = client) => c.responses.create({ model, input: HELLO, ...more });

  check('openai chat', async () => {
    const answer = await chat('sandbox/echo');
    same(answer.choices[0].message.content, HELLO, 'the echo');
    yes(answer.usage.prompt_tokens > 0, 'usage is told');
  });
  check('openai chat stream', async () => {
    const chunks = await all(chat('sandbox/echo', { stream: true }));
    same(chunks.map((c) => c.choices[0].delta.content ?? '').join(''), HELLO, 'the echo, a choice in every chunk');
    same(chunks.at(-1).choices[0].finish_reason, 'stop', 'the finish reason');
  });
  check('openai chat stream, helper', async () => {
    const stream = client.chat.completions.stream({ model: 'sandbox/echo', messages: hello });
    same(await stream.finalContent(), HELLO, 'the echo');
  });
  check('openai chat tools', async () => {
    const first = await chat('sandbox/chat', { tools });
    same(first.choices[0].finish_reason, 'tool_calls', 'the finish reason');
    const call = first.choices[0].message.tool_calls[0];
    yes('city' in JSON.parse(call.function.arguments), 'arguments are JSON');
    const result = { role: 'tool', tool_call_id: call.id, content: 'sunny' };
    const answer = await chat('sandbox/chat', { tools, messages: [...hello, first.choices[0].message, result] });
    yes(answer.choices[0].message.content.includes('sunny'), "the answer has seen the tool's result");
  });
  check('openai chat tools, streamed', async () => {
    const stream = client.chat.completions.stream({ model: 'sandbox/chat', messages: hello, tools });
    const final = await stream.finalChatCompletion();
    const call = final.choices[0].message.tool_calls[0];
    same(call.function.name, 'weather', 'the call');
    yes('city' in JSON.parse(call.function.arguments), 'arguments are JSON');
  });
  check('openai responses', async () => same((await respond('sandbox/echo')).output_text, HELLO, 'the echo'));
  check('openai responses stream', async () => {
    const events = await all(respond('sandbox/echo', { stream: true }));
    const text = events.filter((e) => e.type === 'response.output_text.delta').map((e) => e.delta).join('');
    same(text, HELLO, 'the echo');
    same(events.at(-1).type, 'response.completed', 'the last event');
  });
  check('openai responses tools', async () => {
    const flat = [{ type: 'function', name: 'weather', parameters: schema, strict: false }];
    const first = await respond('sandbox/chat', { tools: flat });
    const call = first.output.find((item) => item.type === 'function_call');
    yes('city' in JSON.parse(call.arguments), 'arguments are JSON');
    const result = { type: 'function_call_output', call_id: call.call_id, output: 'sunny' };
    const answer = await respond('sandbox/chat', { tools: flat, input: [{ role: 'user', content: 'Hi' }, call, result] });
    yes(answer.output_text.includes('sunny'), "the answer has seen the tool's result");
  });
  check('openai embeddings', async () => {
    const answer = await client.embeddings.create({ model: 'sandbox/embed', input: ['one', 'two'] });
    same(answer.data.length, 2, 'one vector a text');
    yes(answer.data[0].embedding.length > 0 && typeof answer.data[0].embedding[0] === 'number', 'of numbers');
  });
  check('openai models', async () => {
    yes((await all(client.models.list())).some((m) => m.id === 'our-echo'), "a route's own name is listed");
  });
  for (const [name, ask] of [['chat', chat], ['responses', respond]]) {
    check(`openai ${name}: wrong key`, () => fails(OpenAI.AuthenticationError, 401, () => ask('sandbox/echo', {}, connect('sk-nonsense'))));
    check(`openai ${name}: unknown model`, async () => {
      same((await fails(OpenAI.NotFoundError, 404, () => ask('no-such-model'))).code, 'model_not_found', 'the code');
    });
    check(`openai ${name}: provider's 429`, () => fails(OpenAI.RateLimitError, 429, () => ask('sandbox/chat,status=429')));
    check(`openai ${name}: provider's 500`, () => fails(OpenAI.InternalServerError, 500, () => ask('sandbox/chat,status=500')));
    for (const fault of FAULTS)
      check(`openai ${name} stream: ${fault}`, () =>
        fails(OpenAI.OpenAIError, 0, async () => {
          const events = await all(ask(`sandbox/chat,fault=${fault}`, { stream: true }));
          // A provider of Responses tells its own failure so, and the SDK raises nothing.
          if (events.at(-1).type === 'response.failed') throw new OpenAI.OpenAIError(events.at(-1).response.error.message);
          return events;
        }));
    for (const fault of WHOLE_FAULTS)
      check(`openai ${name}: ${fault}`, () => fails(OpenAI.APIError, 0, () => ask(`sandbox/chat,fault=${fault}`)));
  }
}

// ---- anthropic
{
  const connect = (apiKey) => new Anthropic({ apiKey, baseURL: url, maxRetries: 0, timeout: 30_000 });
  const client = connect(key);
  const hello = [{ role: 'user', content: HELLO }];
  const tools = [{ name: 'weather', input_schema: schema }];
  const body = (model, more) => ({ model, max_tokens: 1000, messages: hello, ...more });
  const ask = (model, more = {}, c = client) => c.messages.create(body(model, more));
  const final = (model, more = {}) => client.messages.stream(body(model, more)).finalMessage();

  check('anthropic messages', async () => same((await ask('sandbox/echo')).content[0].text, HELLO, 'the echo'));
  check('anthropic stream', async () => {
    const message = await final('sandbox/echo');
    same(message.content[0].text, HELLO, 'the echo');
    same(message.stop_reason, 'end_turn', 'the stop reason');
  });
  check('anthropic stream, raw events', async () => {
    const events = await all(ask('sandbox/echo', { stream: true }));
    same(events.at(-1).type, 'message_stop', 'the last event');
  });
  check('anthropic tools', async () => {
    const first = await ask('sandbox/chat', { tools });
    same(first.stop_reason, 'tool_use', 'the stop reason');
    const call = first.content.find((block) => block.type === 'tool_use');
    const result = { type: 'tool_result', tool_use_id: call.id, content: 'sunny' };
    const messages = [...hello, { role: 'assistant', content: first.content }, { role: 'user', content: [result] }];
    yes((await ask('sandbox/chat', { tools, messages })).content[0].text.includes('sunny'), "the answer has seen the tool's result");
  });
  check('anthropic tools, streamed', async () => {
    const message = await final('sandbox/chat', { tools });
    yes('city' in message.content.find((block) => block.type === 'tool_use').input, 'the input is an object');
  });
  check('anthropic countTokens', async () => {
    yes((await client.messages.countTokens({ model: 'sandbox/chat', messages: hello })).input_tokens > 0, 'a count');
  });
  check('anthropic models', async () => {
    yes((await all(client.models.list())).some((m) => m.id === 'our-echo'), "a route's own name is listed");
  });
  check('anthropic: wrong key', () => fails(Anthropic.AuthenticationError, 401, () => ask('sandbox/echo', {}, connect('sk-nonsense'))));
  check('anthropic: unknown model', () => fails(Anthropic.NotFoundError, 404, () => ask('no-such-model')));
  check("anthropic: provider's 429", () => fails(Anthropic.RateLimitError, 429, () => ask('sandbox/chat,status=429')));
  check("anthropic: provider's 500", () => fails(Anthropic.InternalServerError, 500, () => ask('sandbox/chat,status=500')));
  for (const fault of FAULTS) {
    check(`anthropic stream: ${fault}`, () => fails(Anthropic.APIError, 0, () => final(`sandbox/chat,fault=${fault}`)));
    check(`anthropic raw stream: ${fault}`, () => fails(Anthropic.APIError, 0, () => all(ask(`sandbox/chat,fault=${fault}`, { stream: true }))));
  }
  for (const fault of WHOLE_FAULTS)
    check(`anthropic messages: ${fault}`, () => fails(Anthropic.APIError, 0, () => ask(`sandbox/chat,fault=${fault}`)));
}

// ---- google
{
  const connect = (apiKey) => new GoogleGenAI({ apiKey, vertexai: false, httpOptions: { baseUrl: url, timeout: 30_000 } });
  const client = connect(key);
  const config = { tools: [{ functionDeclarations: [{ name: 'weather', parametersJsonSchema: schema }] }] };
  const ask = (model, more = {}, c = client) => c.models.generateContent({ model, contents: HELLO, ...more });
  const stream = (model, more = {}) => all(client.models.generateContentStream({ model, contents: HELLO, ...more }));

  check('google generateContent', async () => same((await ask('sandbox/echo')).text, HELLO, 'the echo'));
  check('google stream', async () => {
    const chunks = await stream('sandbox/echo');
    same(chunks.map((c) => c.text ?? '').join(''), HELLO, 'the echo');
    same(chunks.at(-1).candidates[0].finishReason, 'STOP', 'the finish reason');
  });
  check('google tools', async () => {
    const first = await ask('sandbox/chat', { config });
    const call = first.functionCalls[0];
    same(call.name, 'weather', 'the call');
    const contents = [
      { role: 'user', parts: [{ text: HELLO }] },
      first.candidates[0].content,
      { role: 'user', parts: [{ functionResponse: { name: call.name, response: { result: 'sunny' } } }] },
    ];
    yes((await ask('sandbox/chat', { contents, config })).text.includes('sunny'), "the answer has seen the tool's result");
  });
  check('google tools, streamed', async () => {
    const calls = (await stream('sandbox/chat', { config })).flatMap((c) => c.functionCalls ?? []);
    same(calls.map((c) => c.name).join(), 'weather', 'the call');
  });
  check('google countTokens', async () => {
    yes((await client.models.countTokens({ model: 'sandbox/chat', contents: HELLO })).totalTokens > 0, 'a count');
  });
  check('google embedContent', async () => {
    const answer = await client.models.embedContent({ model: 'sandbox/embed', contents: ['one', 'two'] });
    same(answer.embeddings.length, 2, 'one vector a text');
  });
  check('google models', async () => {
    yes((await all(client.models.list())).some((m) => m.name === 'models/our-echo'), "a route's own name is listed");
  });
  check('google: wrong key', () => fails(ApiError, 401, () => ask('sandbox/echo', {}, connect('sk-nonsense'))));
  check('google: unknown model', () => fails(ApiError, 404, () => ask('no-such-model')));
  check("google: provider's 429", () => fails(ApiError, 429, () => ask('sandbox/chat,status=429')));
  check("google: provider's 500", () => fails(ApiError, 500, () => ask('sandbox/chat,status=500')));
  for (const fault of FAULTS)
    check(`google stream: ${fault}`, () => fails(ApiError, 0, () => stream(`sandbox/chat,fault=${fault}`)));
  for (const fault of WHOLE_FAULTS)
    check(`google generateContent: ${fault}`, () => fails(ApiError, 0, () => ask(`sandbox/chat,fault=${fault}`)));
}

let [passed, failed] = [0, 0];
for (const [name, run] of checks) {
  try {
    await run();
    passed += 1;
  } catch (error) {
    failed += 1;
    console.log(`FAIL javascript ${name}: ${error.message}`);
  }
}
console.log(`javascript: ${passed} passed, ${failed} failed`);
process.exit(failed ? 1 : 0);
