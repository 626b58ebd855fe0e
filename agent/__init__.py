"""The measuring agent: runs on the target, measures model files, answers in JSON lines. Imports nothing of ours."""
