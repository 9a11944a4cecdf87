"""A folder with a page in which the network itself runs: nothing of a video leaves the browser."""

from __future__ import annotations

import base64
import hashlib
import json
import shutil
import subprocess
import tempfile
from pathlib import Path

from s2svos.locks import content, locked_folder
from s2svos.video.masks import davis_palette
from s2svos.video.overlay import overlay_colours
from s2svos_engines.bundle import Bundle
from s2svos_engines.errors import UserError
from s2svos_engines.files import disk_errors

PAGE, WEB = Path(__file__).parent / "page", Path(__file__).parent / "web"
PACKAGES = {"onnxruntime-web": "1.30.0", "mediabunny": "1.61.0", "fflate": "0.8.3"}
# Of the packages' many files those that run here, by SHA-256.
LIBRARIES = {
    "onnxruntime-web/dist/ort.wasm.min.mjs": (
        "219e6a1fc8a9938268d18efca3c91d310bd2f4a59bbd13744df5b2b7fc6cee3b"
    ),
    "onnxruntime-web/dist/ort-wasm-simd-threaded.mjs": (
        "e13f7f94fc51b4ca72b12faeb1ee95f4ace6dfbc8939bc718aabdc0a27c4299b"
    ),
    "onnxruntime-web/dist/ort-wasm-simd-threaded.wasm": (
        "3398c10d07d229bd91b364548e130e0e51a8e5704b88c7c083ebbeb78842dee2"
    ),
    "mediabunny/dist/bundles/mediabunny.min.mjs": (
        "fa696c53494b6b09a8b310ec51e3c44a59e79513234fb832255a38c686162009"
    ),
    "fflate/esm/browser.js": ("b7ca4450b19559a1d50eb381adcee94b82449674be4cd17789d9beba7e6122a1"),
}
_RENAMED = {"browser.js": "fflate.mjs"}
POLICY = (
    "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; worker-src 'self'; "
    "style-src 'self'; img-src 'self' blob:; media-src blob:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'"
)
_MARK = "s2svos-page.json"  # says that the folder was written here, so that it may be replaced


def write_web_page(
    bundle: Bundle, out: Path, *, precision: str | None = None, packages: Path | None = None
) -> Path:
    """Write the page, the network and what runs them into a folder that any web server can send.

    Args:
        bundle: whose graphs the page runs.
        out: the folder; new, empty, or one that this wrote earlier.
        precision: of the graphs; None for fp16 where the bundle has it, half as much to load.
        packages: a ``node_modules`` with :data:`PACKAGES`; None to have ``npm`` fetch them.

    Returns:
        The folder.

    Raises:
        UserError: it may not be replaced or written, or the packages are missing or others.
    """
    precision = precision or ("fp16" if "fp16" in bundle.precisions else "fp32")
    with locked_folder(out), disk_errors(out):
        if content(out) and not (out / _MARK).is_file():
            raise UserError(f"{out} holds other files", "choose another folder for --web")
        if packages is None:
            with tempfile.TemporaryDirectory(prefix="s2svos-") as folder:
                _fetch(Path(folder))
                libraries = _libraries(Path(folder) / "node_modules")
        else:
            libraries = _libraries(packages)
        for name in ("page", "web", "lib", "model"):
            shutil.rmtree(out / name, ignore_errors=True)
            (out / name).mkdir(parents=True)
        (out / _MARK).write_text(json.dumps({"bundle": bundle.sha256, "packages": PACKAGES}))
        for name, data in libraries.items():
            (out / "lib" / name).write_bytes(data)
        for path in (*PAGE.iterdir(), *WEB.iterdir()):
            if path.suffix in (".js", ".css", ".svg"):
                own = path.parent == WEB and path.name != "api.js"  # which takes the server's place
                shutil.copyfile(path, out / ("web" if own else "page") / path.name)
        _write_model(bundle, out / "model", precision)
        (out / "index.html").write_text(_index(), encoding="utf-8")
    return out


def _write_model(bundle: Bundle, out: Path, precision: str) -> None:
    contract = bundle.contract
    graphs: dict[str, list[str]] = {}
    for name in ("init", "step"):
        bundle.graph(name, precision=precision)  # refuses what could do more than compute
        members = bundle.pieces(name, precision=precision)
        graphs[name] = [member.replace("/", "-") for member in members]
        for member, file in zip(members, graphs[name], strict=True):
            (out / file).write_bytes(bundle.read(member))
    palette = davis_palette()
    colours = overlay_colours(palette)[:, 0].tolist()
    settings = {
        "height": contract.height,
        "width": contract.width,
        "states": [
            {"name": one.name, "shared": one.shared, "entered": one.entered}
            for one in contract.states
        ],
        "precision": precision,
        "graphs": graphs,
        "palette": base64.b64encode(palette).decode(),
        "colours": [f"#{red:02x}{green:02x}{blue:02x}" for red, green, blue in colours],
    }
    (out / "settings.json").write_text(json.dumps(settings))


def _index() -> str:
    page = (PAGE / "index.html").read_text(encoding="utf-8")
    policy = f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
    chooser = (WEB / "chooser.html").read_text(encoding="utf-8")
    return page.replace('<meta charset="utf-8">', f'<meta charset="utf-8">\n{policy}').replace(
        "</body>", f"{chooser}</body>"
    )


def _fetch(folder: Path) -> None:
    npm = shutil.which("npm")
    named = [f"{name}@{version}" for name, version in PACKAGES.items()]
    remedy = (
        f"run npm install {' '.join(named)} where there is a network, and name its node_modules "
        "with --web-packages"
    )
    if not npm:
        raise UserError("The page's libraries come from npm, which is not installed", remedy)
    command = [npm, "install", "--ignore-scripts", "--no-audit", "--no-fund", "--prefix"]
    done = subprocess.run([*command, str(folder), *named], capture_output=True, text=True)
    if done.returncode:
        last = done.stderr.strip().splitlines()[-1:] or ["it says nothing"]
        raise UserError(f"npm did not fetch the page's libraries ({last[0]})", remedy)


def _libraries(packages: Path) -> dict[str, bytes]:
    """Return the files that the page needs, by their name in it."""
    found = {}
    for name, sha256 in LIBRARIES.items():
        path = packages / name
        try:
            data = path.read_bytes()
        except OSError as error:
            raise UserError(
                f"{path} cannot be read ({error.strerror})",
                "name a node_modules with "
                + ", ".join(f"{package} {version}" for package, version in PACKAGES.items()),
            ) from error
        if hashlib.sha256(data).hexdigest() != sha256:
            package = name.partition("/")[0]
            raise UserError(
                f"{path} is not that of {package} {PACKAGES[package]}",
                f"install exactly {package}@{PACKAGES[package]}",
            )
        found[_RENAMED.get(path.name, path.name)] = data
    return found
