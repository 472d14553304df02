"""Is the Hugging Face hub there? Its own client takes 23 s of retries to say no."""

import os
import threading
import urllib.error
import urllib.request

PATIENCE = 1.5  # seconds


def is_reachable() -> bool:
    """Does the hub (HF_ENDPOINT) answer within PATIENCE? False offline (HF_HUB_OFFLINE) without asking."""
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE"):
        return False
    answers = []

    def ask() -> None:
        address = os.environ.get("HF_ENDPOINT") or "https://huggingface.co"
        try:
            urllib.request.urlopen(urllib.request.Request(address, method="HEAD"), timeout=PATIENCE).close()
            answers.append(True)
        except urllib.error.HTTPError as refusal:  # an answer too
            refusal.close()
            answers.append(True)
        except (OSError, ValueError):
            pass

    thread = threading.Thread(target=ask, daemon=True)  # looking up a name knows no timeout
    thread.start()
    thread.join(PATIENCE)
    return bool(answers)
