"""Write config/routes.schema.json anew: `python -m proxy.files` (part of `files`, floor 2)."""

from __future__ import annotations

import json

from proxy.files import config_folder, routes_schema

if __name__ == "__main__":
    target = config_folder() / "routes.schema.json"
    target.write_text(json.dumps(routes_schema(), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
