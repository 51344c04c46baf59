"""Clients of the servers that can be steered: vLLM, llama.cpp and SGLang."""
