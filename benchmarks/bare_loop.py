"""The least a program can do: post every row of a file to a completions server, keep the answers.

The yardstick of ``throughput.py``: no cache, no retries, no scoring, no resume.
"""

from __future__ import annotations

import argparse
import asyncio
import json
from pathlib import Path

import aiohttp


async def ask_all(rows, url, model, max_tokens, concurrency):
    """Return the answers in order; ``concurrency`` requests are under way at once."""
    answers = [""] * len(rows)
    pending = iter(enumerate(rows))

    async def worker(session):
        for index, row in pending:
            body = {
                "model": model,
                "prompt": f"Order: {row['text']}\nJSON:",
                "max_tokens": max_tokens,
                "temperature": 0,
                "stop": ["\n"],
            }
            async with session.post(f"{url}/v1/completions", json=body) as response:
                response.raise_for_status()
                answers[index] = (await response.json())["choices"][0]["text"]

    connector = aiohttp.TCPConnector(limit=0)
    timeout = aiohttp.ClientTimeout(total=None)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
        await asyncio.gather(*(worker(session) for _ in range(concurrency)))
    return answers


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("rows", type=Path)
    parser.add_argument("answers", type=Path)
    parser.add_argument("--url", required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--max-tokens", type=int, default=40)
    parser.add_argument("--concurrency", type=int, default=128)
    options = parser.parse_args()
    rows = [json.loads(line) for line in options.rows.read_text().splitlines()]
    asked = ask_all(rows, options.url, options.model, options.max_tokens, options.concurrency)
    with options.answers.open("w") as out:
        for answer in asyncio.run(asked):
            out.write(json.dumps(answer) + "\n")


if __name__ == "__main__":
    main()
