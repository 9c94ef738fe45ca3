"""An application on a free port of loopback, in a thread of this process."""

from __future__ import annotations

import threading

import uvicorn
from starlette.applications import Starlette


class Site:
    """A running application.

    Args:
        app: what is served.

    Attributes:
        url: its address, without a slash at the end.
    """

    def __init__(self, app: Starlette) -> None:
        config = uvicorn.Config(app, host="127.0.0.1", port=0, log_level="error")
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, daemon=True)
        self._thread.start()
        pause = threading.Event()
        while not self._server.started:
            pause.wait(0.02)
        (socket,) = self._server.servers[0].sockets
        self.url = f"http://127.0.0.1:{socket.getsockname()[1]}"

    def stop(self) -> None:
        """End it."""
        self._server.should_exit = True
        self._thread.join()
