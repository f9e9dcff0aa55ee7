"""Write config/routes.schema.json, which editors read, from the model that `turnpike check` checks by."""

from __future__ import annotations

import json

from proxy.files import config_folder, routes_schema

if __name__ == "__main__":
    path = config_folder() / "routes.schema.json"
    path.write_text(json.dumps(routes_schema(), indent=2) + "\n")
    print(f"wrote {path}")
