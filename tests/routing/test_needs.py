"""What a request needs of a model, and who is known to lack it."""

from __future__ import annotations

from typing import Any

import pytest

from proxy.pricing import ModelFacts
from proxy.routing.needs import find_lack, needs_of
from tests.routing.made import target


def said(*parts: object) -> dict[str, Any]:
    """Make a request whose second message holds these parts."""
    return {"messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": list(parts)}]}


@pytest.mark.parametrize(
    ("body", "needs"),
    [
        ({"messages": [{"role": "user", "content": "Hi"}]}, set()),
        ({"messages": [{"role": "assistant"}, {"role": "user", "content": None}]}, set()),
        (said({"type": "text", "text": "Hi"}), set()),
        (said({"type": "image_url", "image_url": {"url": "https://x.example/a.png"}}), {"image"}),
        (said({"type": "input_image"}), {"image"}),
        (said({"type": "file", "file": {}}), {"pdf"}),
        (said({"type": "input_file"}), {"pdf"}),
        (said({"type": "input_audio"}, {"type": "audio_url"}), {"audio"}),
        (said({"type": "video_url"}, {"type": "input_video"}), {"video"}),
        (said({"type": "image_url"}, {"type": "file"}), {"image", "pdf"}),
        (said("text", None, 3, {}, {"type": None}, {"type": ["image_url"]}, {"type": "new"}), set()),
        ({**said("x"), "tools": [{"type": "function"}]}, {"tools"}),
        ({**said({"type": "image_url"}), "tools": [{}]}, {"tools", "image"}),
        ({**said("x"), "tools": []}, set()),
        ({**said("x"), "tools": None}, set()),
    ],
)
def test_a_request_needs_what_it_holds(body: dict[str, Any], needs: set[str]) -> None:
    """Tools and every kind of part but text; of a part nobody knows, nothing is asked."""
    assert needs_of(body) == needs


@pytest.mark.parametrize(
    ("needs", "capabilities", "lack"),
    [
        (set(), {"tools": False, "input": ("text",)}, None),
        ({"tools", "image"}, {}, None),
        ({"tools"}, {"tools": False}, "support tool use"),
        ({"tools"}, {"tools": True, "input": ("text",)}, None),
        ({"tools"}, {"input": ("text",)}, None),
        ({"image"}, {"tools": False}, None),
        ({"image"}, {"input": ("text",)}, "support image input"),
        ({"image"}, {"input": ("text", "image")}, None),
        ({"image"}, {"input": "image"}, None),
        ({"pdf"}, {"input": ("text", "image")}, "support file input"),
        ({"audio"}, {"input": ("text", "image")}, "support audio input"),
        ({"video"}, {"input": ()}, "support video input"),
        ({"tools", "video"}, {"tools": False, "input": ()}, "support tool use"),
        ({"video", "audio"}, {"input": ("text",)}, "support audio input"),
    ],
)
def test_only_a_lack_that_is_known_counts(needs: set[str], capabilities: dict[str, object], lack: str | None) -> None:
    """What nothing is known of may take all of it; one lack is told, in OpenRouter's words."""
    made = target("openai/m", facts=ModelFacts(capabilities=capabilities))
    assert find_lack(frozenset(needs), made) == lack
