// JavaScript clients at work: run by Node in .clients/node/, which has them and nothing of ours.
//
// Reads one check a line from stdin and writes one line about each to stdout: what the client gave, in words that are
// the same for all of them, or what it raised. The judging is done by the tests, in the other process. `ask` holds
// `url` (with the prefix), `key`, `model`, `text`, and `retries`: null for what the client does by itself, else 0.
import { readFileSync } from "node:fs";
import { createInterface } from "node:readline";
import { createOpenAI } from "@ai-sdk/openai";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { createOpenRouter } from "@openrouter/ai-sdk-provider";
import { OpenRouter } from "@openrouter/sdk";
import { generateText, stepCountIs, streamText, tool } from "ai";
import OpenAI from "openai";
import { z } from "zod";

const SCHEMA = z.object({ city: z.string(), days: z.number().int() });
const PARAMETERS = {
  type: "object",
  properties: { city: { type: "string" }, days: { type: "integer" } },
  required: ["city", "days"],
};
const TOOL = {
  type: "function",
  function: { name: "get_forecast", description: "Tell the weather of the days to come.", parameters: PARAMETERS },
};
const FORCED = { type: "function", function: { name: "get_forecast" } };

// The arguments of every call of the tool, as they came through the client.
let calls = [];

function getForecast({ city, days }) {
  calls.push({ city, days });
  return { sky: "clear" };
}

const user = (ask) => [{ role: "user", content: ask.text }];

// OpenAI's SDK.
const openai = {
  client(ask) {
    const retries = ask.retries === null ? {} : { maxRetries: ask.retries };
    return new OpenAI({ baseURL: ask.url, apiKey: ask.key, ...retries });
  },
  async chat(facts, ask) {
    noteCompletion(facts, await this.client(ask).chat.completions.create({ model: ask.model, messages: user(ask) }));
  },
  async stream(facts, ask) {
    const fields = { model: ask.model, messages: user(ask), stream: true, stream_options: { include_usage: true } };
    for await (const chunk of await this.client(ask).chat.completions.create(fields)) noteChunk(facts, chunk);
  },
  // The helper that adds a stream up is stricter than a loop over chunks, and calls tools by itself.
  async tools(facts, ask) {
    const run = { ...TOOL.function, function: getForecast, parse: JSON.parse };
    const runner = this.client(ask).chat.completions.runTools({
      model: ask.model,
      messages: user(ask),
      stream: true,
      stream_options: { include_usage: true },
      tools: [{ type: "function", function: run }],
    });
    noteCompletion(facts, await runner.finalChatCompletion());
  },
};

// Vercel's AI SDK over a provider package.
const vercel = (modelOf) => ({
  options(ask) {
    const retries = ask.retries === null ? {} : { maxRetries: ask.retries };
    return { model: modelOf(ask), prompt: ask.text, ...retries };
  },
  async chat(facts, ask) {
    this.note(facts, await generateText(this.options(ask)));
  },
  async stream(facts, ask) {
    let raised;
    try {
      for await (const part of streamText({ ...this.options(ask), onError: () => {} }).fullStream) {
        if (part.type === "text-delta") facts.text = (facts.text ?? "") + part.text;
        if (part.type === "error") raised ??= part.error;
        if (part.type === "finish") this.note(facts, { ...part, text: facts.text, usage: part.totalUsage });
      }
    } catch (error) {
      raised ??= error; // the cut connection, behind the part that told why
    }
    if (raised) throw raised;
  },
  async tools(facts, ask) {
    const get_forecast = tool({ inputSchema: SCHEMA, execute: getForecast });
    const result = streamText({ ...this.options(ask), tools: { get_forecast }, stopWhen: stepCountIs(2) });
    this.note(facts, { text: await result.text, finishReason: await result.finishReason, usage: await result.usage });
  },
  note(facts, { text, finishReason, usage }) {
    Object.assign(facts, { text, finish: finishReason, tokens: [usage.inputTokens, usage.outputTokens] });
  },
});

// OpenRouter's own SDK; left alone it repeats a 5xx for an hour.
const openrouter = {
  client(ask) {
    const retries = ask.retries === null ? {} : { retryConfig: { strategy: "none" } };
    return new OpenRouter({ apiKey: ask.key, serverURL: ask.url, ...retries });
  },
  send(ask, fields) {
    return this.client(ask).chat.send({ chatRequest: { model: ask.model, messages: user(ask), ...fields } });
  },
  async chat(facts, ask) {
    noteCompletion(facts, await this.send(ask));
  },
  // An error in a stream is a member of a chunk, which an application has to look at.
  async stream(facts, ask) {
    for await (const chunk of await this.send(ask, { stream: true })) {
      noteChunk(facts, chunk);
      if (chunk.error) throw new ChunkError(chunk.error);
    }
  },
  async tools(facts, ask) {
    const first = (await this.send(ask, { tools: [TOOL], toolChoice: FORCED })).choices[0].message;
    const [call] = first.toolCalls;
    const content = JSON.stringify(getForecast(JSON.parse(call.function.arguments)));
    const messages = [...user(ask), first, { role: "tool", toolCallId: call.id, content }];
    noteCompletion(facts, await this.send(ask, { tools: [TOOL], messages }));
  },
  async models(facts, ask) {
    for await (const page of await this.client(ask).models.list()) facts.reply ??= page.result;
  },
  async key(facts, ask) {
    facts.reply = await this.client(ask).apiKeys.getCurrentKeyMetadata();
  },
  async credits(facts, ask) {
    facts.reply = await this.client(ask).credits.getCredits();
  },
  async generation(facts, ask) {
    facts.id = (await this.send(ask)).id;
    facts.reply = await this.client(ask).generations.getGeneration({ id: facts.id });
  },
};

// An error that the SDK hands over in a chunk instead of raising it.
class ChunkError extends Error {
  constructor({ code, message }) {
    super(message);
    this.statusCode = code;
  }
}

// The shape of OpenAI's completions, which OpenRouter's SDK spells in its own way.
function noteUsage(facts, usage) {
  facts.tokens = [usage.prompt_tokens ?? usage.promptTokens, usage.completion_tokens ?? usage.completionTokens];
}

function noteCompletion(facts, { choices: [choice], usage }) {
  Object.assign(facts, { text: choice.message.content, finish: choice.finish_reason ?? choice.finishReason });
  noteUsage(facts, usage);
}

function noteChunk(facts, { choices, usage }) {
  for (const choice of choices) {
    facts.text = (facts.text ?? "") + (choice.delta.content ?? "");
    facts.finish = choice.finish_reason ?? choice.finishReason ?? facts.finish;
  }
  if (usage) noteUsage(facts, usage);
}

const CLIENTS = {
  ai_compatible: vercel((ask) => {
    const options = { name: "gateway", baseURL: ask.url, apiKey: ask.key, includeUsage: true };
    return createOpenAICompatible(options)(ask.model);
  }),
  ai_openai: vercel((ask) => createOpenAI({ baseURL: ask.url, apiKey: ask.key }).chat(ask.model)),
  ai_openrouter: vercel((ask) => createOpenRouter({ baseURL: ask.url, apiKey: ask.key })(ask.model)),
  openai_node: openai,
  openrouter_typescript: openrouter,
};

// The class, the status where there is one, and the words; of an error about retries, those of the last.
function describeError(raised) {
  const error = raised?.lastError ?? raised;
  const message = error?.message ?? JSON.stringify(error);
  return { type: error?.constructor?.name, status: error?.statusCode ?? error?.status ?? null, message };
}

async function run({ check, ask }) {
  const facts = {};
  calls = [];
  try {
    await CLIENTS[ask.client][check](facts, ask);
  } catch (error) {
    facts.raised = describeError(error);
  }
  return { ...facts, calls };
}

console.log = console.info = console.error; // whatever a client prints is not what is said here
const say = (facts) => process.stdout.write(`${JSON.stringify(facts)}\n`);

const installed = JSON.parse(readFileSync("node_modules/.package-lock.json")).packages;
const versions = Object.entries(installed).map(([path, { version }]) => [path.replace("node_modules/", ""), version]);

say({ versions: Object.fromEntries(versions) });
for await (const line of createInterface({ input: process.stdin })) say(await run(JSON.parse(line)));
