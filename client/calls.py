"""What every part of the client is built on: one call, which the client retries."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

from common import json_profile


class Calls(ABC):
    """The base of the parts that make up `Client`."""

    @abstractmethod
    def _call(self, method: str, path: str, body: bytes | None = None, timeout: float = 30.0) -> Any:
        """The data of the answer; `timeout` in seconds."""

    def _post(self, path: str, fields: Mapping[str, Any], timeout: float = 30.0) -> Any:
        return self._call("POST", path, json_profile.dump(fields).encode("utf-8"), timeout)

    def _send(self, method: str, path: str, fields: Mapping[str, Any]) -> Any:
        return self._call(method, path, json_profile.dump(fields).encode("utf-8"))
