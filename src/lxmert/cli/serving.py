"""The command `serve`."""

from pathlib import Path
from typing import Annotated

import typer

from lxmert.cli.inputs import check_device, check_model
from lxmert.cli.options import AnswerList, Device, RegionExtractor


def serve(
    model: Annotated[
        str | None,
        typer.Argument(
            metavar="[MODEL]",
            help="Model folder or Hugging Face hub name. Default: bundled.",
            callback=check_model,
        ),
    ] = None,
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 for all.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port; 0 chooses a free one.")] = 8000,
    extractor: RegionExtractor = None,
    answers: AnswerList = None,
    device: Device = None,
    workers: Annotated[int, typer.Option(help="Number of processes, each with a model.")] = 1,
    api_only: Annotated[bool, typer.Option("--api-only", help="No web page.")] = False,
    mcp: Annotated[bool, typer.Option("--mcp", help="Offer MCP tools at /mcp.")] = False,
    auth: Annotated[
        str | None, typer.Option(metavar="USER:PASSWORD", help="Require this login.")
    ] = None,
    api_key_file: Annotated[
        Path | None, typer.Option(help="Require an API key; the file has one key per line.")
    ] = None,
    max_batch: Annotated[int, typer.Option(help="Images per batch.")] = 16,
    batch_wait: Annotated[float, typer.Option(help="Milliseconds to wait for a batch.")] = 2.0,
    max_queue: Annotated[
        int, typer.Option(help="Maximum of requests in progress; further ones get status 429.")
    ] = 64,
    timeout: Annotated[float, typer.Option(help="Seconds per request.")] = 30.0,
    cache: Annotated[int, typer.Option(help="Region cache in MiB.")] = 256,
    max_image: Annotated[int, typer.Option(help="Largest image file in MiB.")] = 20,
    max_megapixels: Annotated[int, typer.Option(help="Largest image in megapixels.")] = 50,
    allow_urls: Annotated[
        bool, typer.Option("--allow-urls", help="Fetch images from public web addresses.")
    ] = False,
    allow_origin: Annotated[
        list[str] | None,
        typer.Option(help="Origin whose pages may use the API (CORS). Repeatable."),
    ] = None,
    examples: Annotated[
        Path | None, typer.Option(help="Folder of example images for the page.")
    ] = None,
    reports: Annotated[
        Path | None,
        typer.Option(help="Folder for saved reports. Default: deleted when the server ends."),
    ] = None,
) -> None:
    """Serve a web page and an HTTP API that answer questions about images.

    Example: lxmert serve --port 8000
    """
    check_device(device)
    from lxmert.serve.settings import ServeSettings, read_keys

    user, _, password = auth.partition(":") if auth is not None else (None, "", None)
    settings = ServeSettings(
        model=model,
        extractor=extractor,
        answers=answers,
        device=device,
        host=host,
        port=port,
        workers=workers,
        page=not api_only,
        mcp=mcp,
        max_batch=max_batch,
        batch_wait=batch_wait / 1000,
        max_queue=max_queue,
        timeout=timeout,
        cache_mib=cache,
        max_image_mib=max_image,
        max_megapixels=max_megapixels,
        user=user or None,
        password=password or None,
        api_keys=read_keys(api_key_file) if api_key_file is not None else (),
        allow_urls=allow_urls,
        allow_origins=tuple(allow_origin or ()),
        examples=examples,
        reports=reports,
    )
    try:
        import fastapi  # noqa: F401
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "lxmert serve needs packages that are not installed: pip install 'lxmert[serve]'"
        ) from error
    from lxmert.serve.run import serve as run

    run(settings)
