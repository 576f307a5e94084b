"""The engine for other programs: OpenAI's protocol, the published demo's, and a web page. Never textual."""
