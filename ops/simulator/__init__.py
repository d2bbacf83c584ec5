"""A model endpoint that can be told to fail: it serves the demo, the tests and the drills.

Lives here: deterministic answers (`answers`), the OpenAI, Anthropic and Gemini dialects (`openai`,
`anthropic`, `gemini`), the menu of faults (`faults`), and the small HTTP/1.1 server under both ports. Does not
live here: anything a deployable imports, and any framework: six of these start with every local
stack, and a framework would neither start fast enough nor send the broken bytes that some faults are
made of.
"""
