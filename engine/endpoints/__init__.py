"""Models behind an endpoint with OpenAI's chat protocol: the settings, the conversation, and answers kept on disk."""
