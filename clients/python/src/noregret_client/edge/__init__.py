"""An endpoint on the device: it decides and predicts here, without a network, and tells the
platform later.

device = EdgeClient("iris", "/var/lib/iris", url, key)
device.refresh()
answer = device.predict(rows, unit="user-42")
device.feedback(answer.decision_id, 1)
device.upload()
"""

from .bundle import Bundle, BundleArm, BundleNotTrusted
from .device import EdgeClient, EdgeError, NoBundle, NotRunnable, Uploaded

__all__ = [
    "Bundle",
    "BundleArm",
    "BundleNotTrusted",
    "EdgeClient",
    "EdgeError",
    "NoBundle",
    "NotRunnable",
    "Uploaded",
]
