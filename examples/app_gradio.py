"""A small page of one's own over a running service: `python examples/app_gradio.py [URL]`.

Needs the extra demo; the service's own page at / does more and needs nothing.
"""

from __future__ import annotations

import sys
from pathlib import Path

import gradio as gr
import httpx

DEFAULT_URL = "http://127.0.0.1:8000"


def build(url: str) -> gr.Interface:
    """A form with one file and its answer, from the service at an address."""

    def answer(path: str | None) -> tuple[dict[str, float], str]:
        if path is None:
            raise gr.Error("Choose a file first.")
        name = Path(path).name
        reply = httpx.post(
            f"{url}/v1/classify",
            params={"top_k": 5, "file": name[-200:]},
            content=Path(path).read_bytes(),
            timeout=120,
        )
        body = reply.json()
        if reply.is_error:
            raise gr.Error(body["error"]["message"])
        scores = {each["genre"]: each["probability"] for each in body["predictions"]}
        reasons = [each["message"] for each in body["reasons"]]
        return scores, "\n".join(reasons) or "Nothing speaks against it."

    return gr.Interface(
        answer,
        inputs=gr.Audio(type="filepath", label="Song"),
        outputs=[gr.Label(label="Genre"), gr.Textbox(label="Why a person should look")],
        title="AcousticSense",
        flagging_mode="never",
    )


if __name__ == "__main__":
    build(sys.argv[1] if len(sys.argv) > 1 else DEFAULT_URL).launch(server_name="127.0.0.1")
