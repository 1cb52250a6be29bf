"""DocSnap as a web application, and the worker's entry: `toril worker docsnap.app:toril`."""

import logging

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse

from docsnap.browser import SecurityHeaders, browser_routes
from docsnap.documents import DocumentRoutes
from docsnap.settings import Settings, load_settings
from docsnap.tasks import GenerateDocs, define_tasks
from toril import Toril
from toril.web import ApiError, Gate, JWTAuth, health_api, jobs_api


def create_app(toril: Toril, generate_docs: GenerateDocs, settings: Settings) -> FastAPI:
    """The API and the page."""
    auth = JWTAuth(secret=settings.secret)
    app = FastAPI(title="DocSnap", lifespan=toril.lifespan)
    app.add_middleware(SecurityHeaders)
    app.add_exception_handler(ApiError, _refused)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.include_router(DocumentRoutes(toril, generate_docs, settings, Gate(auth)).router(), prefix="/api")
    app.include_router(jobs_api(toril, auth=auth), prefix="/api")
    app.include_router(health_api(toril, auth=auth))
    app.include_router(browser_routes(settings))
    return app


async def _refused(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, ApiError)  # noqa: S101 - what the handler is registered for
    return error.response()


async def _invalid(request: Request, error: Exception) -> JSONResponse:
    """Wrong fields in the shape that Toril's own routes have."""
    assert isinstance(error, RequestValidationError)  # noqa: S101 - what the handler is registered for
    fields = [
        {"field": ".".join(map(str, problem["loc"][1:])) or "body", "message": problem["msg"], "type": problem["type"]}
        for problem in error.errors()
    ]
    message = "; ".join(f"{field['field']}: {field['message']}" for field in fields)
    return ApiError(422, "invalid_request", message, fields=fields).response()


# One line per request is for the job's own log, which names the pages.
logging.getLogger("httpx").setLevel(logging.WARNING)

settings = load_settings()
toril = Toril()
generate_docs = define_tasks(toril, settings)
app = create_app(toril, generate_docs, settings)
