// The npm package openai: the base URL changed, and nothing else.

import assert from "node:assert/strict";
import { test } from "node:test";

import OpenAI from "openai";
import { zodResponseFormat, zodTextFormat } from "openai/helpers/zod";
import { z } from "zod";

import { baseURL, cities, key } from "./server.mjs";

const client = new OpenAI({ baseURL, apiKey: key, maxRetries: 0 });
const messages = [{ role: "user", content: "Say something about Rome." }];
const parameters = {
  type: "object",
  properties: { city: { enum: cities } },
  required: ["city"],
  additionalProperties: false,
};
const Place = z.object({ city: z.enum(cities), warm: z.boolean() });

test("models are listed and found", async () => {
  const ids = [];
  for await (const model of client.models.list()) ids.push(model.id);
  assert.ok(ids.includes("tiny"));
  assert.equal((await client.models.retrieve("tiny")).id, "tiny");
});

test("a stream says what the whole answer says", async () => {
  const asked = { model: "tiny", messages, temperature: 0, max_tokens: 12 };
  const whole = await client.chat.completions.create(asked);
  const stream = await client.chat.completions.create({ ...asked, stream: true });
  let said = "";
  for await (const chunk of stream) said += chunk.choices[0]?.delta.content ?? "";
  assert.equal(said, whole.choices[0].message.content);
  assert.equal(whole.usage.completion_tokens, 12);
});

test("the stream helper folds a forced call", async () => {
  const stream = client.chat.completions.stream({
    model: "tiny",
    messages,
    tools: [{ type: "function", function: { name: "weather", parameters } }],
    tool_choice: "required",
    max_tokens: 100,
    temperature: 0,
  });
  const completion = await stream.finalChatCompletion();
  const [call] = completion.choices[0].message.tool_calls;
  assert.equal(call.function.name, "weather");
  assert.ok(cities.includes(JSON.parse(call.function.arguments).city));
});

test("runTools calls the function and sends its result", async () => {
  const given = [];
  const runner = client.chat.completions.runTools(
    {
      model: "tiny",
      messages,
      tools: [
        {
          type: "function",
          function: {
            name: "weather",
            parameters,
            parse: JSON.parse,
            function: ({ city }) => {
              given.push(city);
              return "sunny";
            },
          },
        },
      ],
      tool_choice: { type: "function", function: { name: "weather" } },
      max_tokens: 100,
      temperature: 0,
    },
    { maxChatCompletions: 1 },
  );
  await runner.done();
  assert.equal(given.length, 1);
  assert.ok(cities.includes(given[0]));
  assert.equal(runner.messages.at(-1).role, "tool");
});

test("parse gives an object of the schema", async () => {
  const answer = await client.chat.completions.parse({
    model: "tiny",
    messages,
    response_format: zodResponseFormat(Place, "place"),
    max_tokens: 100,
    temperature: 0,
  });
  assert.ok(cities.includes(answer.choices[0].message.parsed.city));
});

test("embeddings are normalized however they travel", async () => {
  const packed = await client.embeddings.create({ model: "vectors", input: ["Rome", "Oslo"] });
  const plain = await client.embeddings.create({
    model: "vectors",
    input: "Rome",
    encoding_format: "float",
  });
  const vector = packed.data[0].embedding;
  assert.equal(packed.data.length, 2);
  assert.ok(Math.abs(vector.reduce((sum, x) => sum + x * x, 0) - 1) < 1e-3);
  assert.equal(vector.length, plain.data[0].embedding.length);
});

test("a conversation of responses goes on", async () => {
  const asked = { model: "tiny", max_output_tokens: 4 };
  const first = await client.responses.create({ ...asked, input: "Hello." });
  const second = await client.responses.create({
    ...asked,
    input: "Go on.",
    previous_response_id: first.id,
  });
  assert.equal(second.previous_response_id, first.id);
  assert.ok(second.usage.input_tokens_details.cached_tokens > 0);
  await client.responses.delete(first.id);
  await assert.rejects(client.responses.retrieve(first.id), OpenAI.NotFoundError);
});

test("a streamed response is parsed", async () => {
  const stream = client.responses.stream({
    model: "tiny",
    input: "A place?",
    text: { format: zodTextFormat(Place, "place") },
    max_output_tokens: 100,
    temperature: 0,
  });
  const kinds = [];
  for await (const event of stream) kinds.push(event.type);
  const final = await stream.finalResponse();
  assert.deepEqual(kinds.slice(0, 2), ["response.created", "response.in_progress"]);
  assert.equal(kinds.at(-1), "response.completed");
  assert.ok(cities.includes(final.output_parsed.city));
});

test("errors are those of the SDK", async () => {
  const create = (changed, from = client) =>
    from.chat.completions.create({ model: "tiny", messages, ...changed });
  await assert.rejects(create({ model: "nobody" }), (error) => {
    assert.ok(error instanceof OpenAI.NotFoundError);
    assert.equal(error.code, "model_not_found");
    return true;
  });
  await assert.rejects(create({ temperature: 9, stream: true }), OpenAI.BadRequestError);
  const stranger = new OpenAI({ baseURL, apiKey: "wrong", maxRetries: 0 });
  await assert.rejects(create({}, stranger), OpenAI.AuthenticationError);
});

test("a stream that is left ends", async () => {
  const stream = await client.chat.completions.create({
    model: "tiny",
    messages,
    stream: true,
    max_tokens: 1000,
  });
  for await (const _ of stream) break;
  assert.ok(stream.controller.signal.aborted);
});
