"""The routes: what a request gets for an answer, and every status that it may have."""

import asyncio
import contextlib
import dataclasses
import time
from collections.abc import AsyncIterator, Callable

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from kunlun_jax.data.reading.request_values import RequestError
from kunlun_jax.serving.http.bodies import Bodies, BodyError
from kunlun_jax.serving.http.metrics import CONTENT_TYPE, Metrics
from kunlun_jax.serving.http.scorer import (
    ClosedError,
    DeadlineError,
    QueueFullError,
    Scorer,
    Scores,
)

CLIENT_LEFT = 499  # nobody receives it, but it is counted


@dataclasses.dataclass(frozen=True)
class Limits:
    """What a request may take.

    Attributes:
        body_bytes: Most bytes of a body.
        body_seconds: Seconds in which all of it has to come.
        score_seconds: Seconds from there to the answer.
    """

    body_bytes: int = 2**20
    body_seconds: float = 10.0
    score_seconds: float = 2.0


class RefusedError(Exception):
    """An answer that is not scores."""

    def __init__(self, status: int, field: str, reason: str, **headers: str) -> None:
        """Say what is wrong, and where; names of headers have underscores."""
        super().__init__(reason)
        self.response = JSONResponse(
            {"error": {"field": field, "reason": reason}},
            status,
            {name.replace("_", "-"): value for name, value in headers.items()},
        )


class Service:
    """Answers requests; nothing here waits but by `await`.

    Attributes:
        app: The ASGI application.
        is_stopping: Whether the server takes requests for the last time.
    """

    def __init__(
        self,
        bodies: Bodies,
        scorer: Scorer,
        metrics: Metrics,
        *,
        tasks: tuple[str, ...],
        limits: Limits,
        report: Callable[[str], None],
    ) -> None:
        """Make the application.

        Args:
            bodies: Reads bodies.
            scorer: Scores.
            metrics: What is counted.
            tasks: Names of the columns of scores.
            limits: What a request may take.
            report: Takes a line about an error that is not the request's.
        """
        self._bodies, self._scorer, self._metrics = bodies, scorer, metrics
        self._tasks, self._limits, self._report = tasks, limits, report
        self.is_stopping = False
        self.app = Starlette(
            routes=[
                Route("/score", self._score, methods=["POST"]),
                Route("/schema", self._schema),
                Route("/healthz", self._health),
                Route("/readyz", self._readiness),
                Route("/metrics", self._counts),
            ],
            exception_handlers={HTTPException: _no_such_route},
        )

    @property
    def is_ready(self) -> bool:
        """Whether another request should be sent here."""
        return self._scorer.is_alive and not self.is_stopping

    async def _score(self, request: Request) -> Response:
        begun = time.monotonic()
        try:
            scores = await self._scores(request)
            response: Response = JSONResponse(
                {"step": scores.step, "tasks": self._tasks, "scores": scores.values.tolist()}
            )
        except RefusedError as refusal:
            response = refusal.response
        except ClientDisconnect:
            response = Response(status_code=CLIENT_LEFT)
        self._metrics.requests.labels(str(response.status_code)).inc()
        self._metrics.seconds.observe(time.monotonic() - begun)
        return response

    async def _scores(self, request: Request) -> Scores:
        """Return the scores, or raise the refusal."""
        try:
            query = self._bodies.read(await self._content(request))
            job = self._scorer.submit(query, time.monotonic() + self._limits.score_seconds)
            return await self._first(asyncio.wrap_future(job), request)
        except (BodyError, RequestError) as error:
            bad = BodyError.of_request(error) if isinstance(error, RequestError) else error
            raise RefusedError(422 if bad.is_json else 400, bad.field, bad.reason) from error
        except QueueFullError as error:
            wait = str(error.retry_after)
            raise RefusedError(429, "server", str(error), retry_after=wait) from error
        except (DeadlineError, TimeoutError) as error:
            reason = f"expected scores within {self._limits.score_seconds} s, got none"
            raise RefusedError(504, "server", reason) from error
        except ClosedError as error:
            raise RefusedError(503, "server", str(error), connection="close") from error
        except (RefusedError, ClientDisconnect):
            raise
        except Exception as error:
            text = " ".join(f"{type(error).__name__}: {error}".split())
            self._report(f"error: a request was not scored: {text:.300}")
            raise RefusedError(
                500, "server", "expected scores, got an error of the server"
            ) from error

    async def _content(self, request: Request) -> bytes:
        """Return the body; of one that is too large, the rest is read and dropped first.

        Whoever sends it reads an answer only then.
        """
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind != "application/json" or "content-encoding" in request.headers:
            raise RefusedError(
                415,
                "content-type",
                f"expected application/json without an encoding, got {kind or 'none'!r:.60}",
                connection="close",
            )
        limits, content, size = self._limits, bytearray(), 0
        too_large = RefusedError(
            413, "body", f"expected at most {limits.body_bytes} bytes, got more", connection="close"
        )
        declared = request.headers.get("content-length", "")
        if "expect" in request.headers and int(declared or 0) > limits.body_bytes:
            raise too_large  # the client waits for "100 Continue" before it sends the body
        try:
            async with asyncio.timeout(limits.body_seconds):
                async for chunk in request.stream():
                    size += len(chunk)
                    if size <= limits.body_bytes:
                        content += chunk
        except TimeoutError:
            reason = f"expected all of it within {limits.body_seconds} s, got {size} bytes"
            raise RefusedError(408, "body", reason, connection="close") from None
        if size > limits.body_bytes:
            raise too_large
        return bytes(content)

    async def _first(self, answer: asyncio.Future[Scores], request: Request) -> Scores:
        """Return the answer if it comes before the deadline, and before the client leaves."""
        async with _left(request) as left:
            await asyncio.wait(
                {answer, left},
                timeout=self._limits.score_seconds,
                return_when=asyncio.FIRST_COMPLETED,
            )
            if answer.done():
                return answer.result()
            answer.cancel()
            if left.done():
                raise ClientDisconnect
            raise TimeoutError

    async def _schema(self, request: Request) -> Response:
        del request
        return JSONResponse(self._bodies.json_schema)

    async def _health(self, request: Request) -> Response:
        del request
        return JSONResponse({}, 200 if self._scorer.is_alive else 503)

    async def _readiness(self, request: Request) -> Response:
        del request
        return JSONResponse({"ready": self.is_ready}, 200 if self.is_ready else 503)

    async def _counts(self, request: Request) -> Response:
        del request
        self._metrics.ready.set(self.is_ready)
        return Response(self._metrics.text(), media_type=CONTENT_TYPE)


async def _no_such_route(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    reason = f"{request.method} {request.url.path:.100}: {error.detail}"
    headers = {name.lower(): value for name, value in (error.headers or {}).items()}
    return RefusedError(error.status_code, "path", reason, **headers).response


@contextlib.asynccontextmanager
async def _left(request: Request) -> AsyncIterator[asyncio.Task[None]]:
    """Give what is done when the client leaves; the body has been read."""

    async def wait() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass

    task = asyncio.create_task(wait())
    try:
        yield task
    finally:
        task.cancel()
