// The npm package ai, with each provider that speaks one of the server's three APIs.

import assert from "node:assert/strict";
import { describe, test } from "node:test";

import { createAnthropic } from "@ai-sdk/anthropic";
import { createOpenAI } from "@ai-sdk/openai";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { embedMany, generateObject, generateText, isStepCount, streamText, tool } from "ai";
import { z } from "zod";

import { baseURL, cities, key } from "./server.mjs";

const compatible = createOpenAICompatible({
  name: "jarvis",
  baseURL,
  apiKey: key,
  includeUsage: true,
  supportsStructuredOutputs: true,
});
const openai = createOpenAI({ baseURL, apiKey: key });
const anthropic = createAnthropic({ baseURL, apiKey: key });

const models = {
  "openai-compatible": compatible.chatModel("tiny"),
  "openai, chat": openai.chat("tiny"),
  "openai, responses": openai.responses("tiny"),
  anthropic: anthropic("tiny"),
};

for (const [name, model] of Object.entries(models)) {
  const asked = { model, temperature: 0, maxRetries: 0 };

  describe(name, () => {
    test("a stream says what the whole answer says", async () => {
      const question = { ...asked, prompt: "Say something about Rome.", maxOutputTokens: 12 };
      const whole = await generateText(question);
      const stream = streamText(question);
      let said = "";
      for await (const text of stream.textStream) said += text;
      assert.equal(said, whole.text);
      assert.equal(await stream.finishReason, "length");
      assert.equal((await stream.usage).outputTokens, whole.usage.outputTokens);
      assert.equal(whole.usage.outputTokens, 12);
    });

    test("an object is of its schema", async () => {
      const { object } = await generateObject({
        ...asked,
        schema: z.object({ city: z.enum(cities) }),
        prompt: "A city?",
        maxOutputTokens: 100,
      });
      assert.ok(cities.includes(object.city));
    });

    test("a tool is called and its result taken", async () => {
      const given = [];
      const answer = await generateText({
        ...asked,
        tools: {
          weather: tool({
            description: "The weather of a city.",
            inputSchema: z.object({ city: z.enum(cities) }),
            execute: async ({ city }) => {
              given.push(city);
              return "sunny";
            },
          }),
        },
        prepareStep: ({ stepNumber }) => ({ toolChoice: stepNumber === 0 ? "required" : "none" }),
        stopWhen: isStepCount(2),
        prompt: "What is the weather of Rome?",
        maxOutputTokens: 60,
      });
      assert.equal(given.length, 1);
      assert.ok(cities.includes(given[0]));
      assert.equal(answer.steps.length, 2);
      assert.equal(answer.steps[0].finishReason, "tool-calls");
      assert.notEqual(answer.text, "");
    });

    test("a streamed call has whole arguments", async () => {
      const stream = streamText({
        ...asked,
        tools: { weather: tool({ inputSchema: z.object({ city: z.enum(cities) }) }) },
        toolChoice: { type: "tool", toolName: "weather" },
        prompt: "What is the weather of Rome?",
        maxOutputTokens: 60,
      });
      const [call] = await stream.toolCalls;
      assert.equal(call.toolName, "weather");
      assert.ok(cities.includes(call.input.city));
    });
  });
}

for (const [name, model] of Object.entries({
  "openai-compatible": compatible.embeddingModel("vectors"),
  openai: openai.embedding("vectors"),
})) {
  test(`embeddings through ${name}`, async () => {
    const { embeddings, usage } = await embedMany({ model, values: ["Rome", "Oslo"] });
    assert.equal(embeddings.length, 2);
    assert.ok(Math.abs(embeddings[0].reduce((sum, x) => sum + x * x, 0) - 1) < 1e-3);
    assert.ok(usage.tokens > 0);
  });
}
