"""One module per dialect, translating between it and OpenAI's chat completions (floor 1a, pure)."""
