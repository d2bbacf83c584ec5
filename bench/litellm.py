"""LiteLLM's proxy as a peer: from a virtual environment of its own, for its dependencies are none of this project's.

`.cache/litellm` is used when it is there, and made when `BENCH_LITELLM=1` asks for it.
"""

import os
import subprocess
import sys
from pathlib import Path

from bench.proxies import Proxy, free_port, start

HOME = Path(__file__).resolve().parent.parent / ".cache" / "litellm"
START_S = 90.0


def start_litellm(where: Path, upstream: int, core: int) -> Proxy | None:
    """Its proxy, one worker, no keys, no logging, retrying as the others do; None where it is not installed."""
    if not _installed():
        print("LiteLLM is not installed (BENCH_LITELLM=1 makes .cache/litellm): left out")
        return None
    port = free_port()
    config = where / "litellm.yaml"
    config.write_text(
        f"""
model_list:
  - model_name: chat
    litellm_params: {{model: openai/m, api_base: "http://127.0.0.1:{upstream}/v1", api_key: sk-bench}}
litellm_settings: {{num_retries: 2, telemetry: false, set_verbose: false}}
"""
    )
    command = [str(HOME / "bin" / "litellm"), "--config", str(config), "--host", "127.0.0.1"]
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("OTEL_", "PYTHON"))},
        "LITELLM_LOG": "ERROR",
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY": "true",  # keys would need its database
        "NO_PROXY": "127.0.0.1",
    }
    try:
        return start(
            "litellm",
            [*command, "--port", str(port), "--num_workers", "1"],
            port,
            where,
            core,
            within_s=START_S,
            environment=environment,
        )
    except RuntimeError as error:
        print(f"{error}\nLiteLLM: left out")
        return None


def _installed() -> bool:
    if (HOME / "bin" / "litellm").exists():
        return True
    if os.environ.get("BENCH_LITELLM") != "1":
        return False
    print(f"installing LiteLLM into {HOME}: this takes some minutes")
    subprocess.run([sys.executable, "-m", "venv", str(HOME)], check=True)
    pip = [str(HOME / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    return subprocess.run([*pip, "litellm[proxy]"], check=False).returncode == 0
