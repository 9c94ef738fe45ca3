"""Fakes of Serve's handles, so that a chain of stages runs in one process."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from ray.exceptions import RayError, RayTaskError
from ray.serve.exceptions import BackPressureError

from acoustic.postprocess.postprocess_config import PostprocessConfig


class Response:
    """Fake of a DeploymentResponse: arguments that are responses are awaited first.

    Args:
        work: what the stage does.
        arguments: values and responses.
        pass_on_errors: whether the error of an argument becomes its value; otherwise it is raised.
    """

    def __init__(
        self, work: Callable[..., Any], arguments: tuple[Any, ...], pass_on_errors: bool = False
    ) -> None:
        self._work, self._arguments = work, arguments
        self._pass_on_errors = pass_on_errors
        self._task: asyncio.Future[Any] | None = None
        self.is_cancelled = False

    def __await__(self) -> Any:
        if self._task is None:
            self._task = asyncio.ensure_future(self._run())
        return self._task.__await__()

    async def _run(self) -> Any:
        values = [
            await self._value(each) if isinstance(each, Response) else each
            for each in self._arguments
        ]
        result = self._work(*values)
        return await result if isinstance(result, Awaitable) else result

    async def _value(self, response: Response) -> Any:
        try:
            return await response
        except RayError as error:
            if not self._pass_on_errors:
                raise
            return error

    def cancel(self) -> None:
        """Cancel it; as in Serve, one that no replica took raises its error again."""
        self.is_cancelled = True
        if self._task is not None and self._task.done() and not self._task.cancelled():
            error = self._task.exception()
            if isinstance(error, BackPressureError):
                raise error


class Handle:
    """Fake of a DeploymentHandle around a function; a test may put another one in its place."""

    def __init__(self, work: Callable[..., Any]) -> None:
        self.work = work
        self.pass_on_errors = False
        self.calls: list[tuple[Any, ...]] = []
        self.responses: list[Response] = []
        self.facts_work: Callable[[], Any] = lambda: {"pid": 1, "settings_digest": "d"}
        self.settings_work: Callable[[], Any] = lambda: (PostprocessConfig(), "")
        self.by_reference: list[bool] = []

    def remote(self, *arguments: Any) -> Response:
        self.calls.append(arguments)
        self.responses.append(Response(self.work, arguments, self.pass_on_errors))
        return self.responses[-1]

    def options(self, *, _by_reference: bool) -> Handle:
        """The same handle; notes how a call is sent."""
        self.by_reference.append(_by_reference)
        return self

    @property
    def settings(self) -> Any:
        """Settings in force, as of stage 3."""
        return Handle(self.settings_work)

    @property
    def facts(self) -> Any:
        return Handle(self.facts_work)


def fail_times(work: Callable[..., Any], *errors: Exception) -> Callable[..., Any]:
    """The work, whose first calls raise the errors."""
    left = list(errors)

    def failing(*arguments: Any) -> Any:
        if left:
            raise left.pop(0)
        return work(*arguments)

    return failing


def as_task_error(cause: Exception) -> RayTaskError:
    """The error as Ray raises it in the caller's process."""
    return RayTaskError("stage", "Traceback", cause, "proctitle", 1, "127.0.0.1")
