"""`asv publish`, then the dashboard's scripts beside it, so that it opens without a network.

    python asv_bench/publish.py [--serve PORT]

asv's page loads nine scripts and a style sheet from other hosts.  They are fetched once, by `npm pack`, in pinned versions with pinned checksums, and
lie below html/v with their licences.  A browser wants the result served over HTTP: --serve does, on this machine only.
"""

from __future__ import annotations

import argparse
import functools
import hashlib
import http.server
import re
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
# npm package -> sha256 of its archive
PACKAGES = {
    "jquery@3.3.1": "2c7c70a1e796c1568ff05d45a8cb2da2a0fc6e37426c65e4eef6ee55e217933e",
    "flot@0.8.3": "5e4cea78a9efa2d3dbba363ac76c688951e6c638ee916883c36e23516208b1ed",
    "flot-orderbars@1.0.0": "e5523ee7cca778f194b34fc31afb6dda40bf1557e6669fda4730c29f53e87101",
    "stupid-table-plugin@1.1.3": "1186089584b7c2f7fec9ad4232e9aa1adbfea273eaa233b713beb8c2c916b4ac",
    "blueimp-md5@2.19.0": "0fff5798c7733b21f3e4c0de69ccba12af266e0f01c3e3a41051c0e49a655512",
    "bootstrap@3.1.1": "23b27da4dd80b8fbe8972ac4be87037627e007ad5dd1edb27435844f0a4646a0",
}
# what asv's page asks for (the end of the address) -> a package's file
FILES = {
    "/jquery-3.3.1.min.js": "jquery/dist/jquery.min.js",
    "/jquery.flot.min.js": "flot/jquery.flot.js",
    "/jquery.flot.time.min.js": "flot/jquery.flot.time.js",
    "/jquery.flot.selection.min.js": "flot/jquery.flot.selection.js",
    "/jquery.flot.categories.min.js": "flot/jquery.flot.categories.js",
    "/jquery.flot.orderBars.js": "flot-orderbars/js/jquery.flot.orderBars.js",
    "/stupidtable.min.js": "stupid-table-plugin/stupidtable.min.js",
    "/md5.min.js": "blueimp-md5/js/md5.min.js",
    "/bootstrap.min.js": "bootstrap/dist/js/bootstrap.min.js",
    "/bootstrap.min.css": "bootstrap/dist/css/bootstrap.min.css",
}
KEPT = re.compile(r"[^/]+/(LICENSE|README|package\.json|dist/fonts/)")                 # beside the files themselves
TAG = re.compile(r'<(?:script|link)\b[^>]*\b(?:src|href)="((?:https?:)?//[^"]+)"[^>]*>')


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--html", type=Path, default=HERE / "html", help="where asv publishes (html_dir of asv.conf.json)")
    parser.add_argument("--serve", type=int, metavar="PORT", help="serve it afterwards")
    options = parser.parse_args(argv)
    subprocess.run([sys.executable, "-m", "asv", "--config", HERE / "asv.conf.json", "publish", "--html-dir", options.html], check=True)
    with tempfile.TemporaryDirectory() as folder:
        vendor(Path(folder), options.html / "v")
    index = options.html / "index.html"
    index.write_text(local(index.read_text()))
    left = remote(options.html)
    print(*left, f"{index}: {len(FILES)} files vendored, {len(left)} loaded from elsewhere", sep="\n")
    if options.serve and not left:
        handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=options.html)
        http.server.ThreadingHTTPServer(("localhost", options.serve), handler).serve_forever()
    return bool(left)


def vendor(archives, target):
    """Fetch the packages and put what is needed of them below `target`, each in a folder of its own."""
    for package, digest in PACKAGES.items():
        name = subprocess.run(["npm", "pack", "--silent", package], cwd=archives, check=True, capture_output=True, text=True).stdout.strip()
        found = hashlib.sha256((archives / name).read_bytes()).hexdigest()
        if found != digest:
            raise ValueError(f"publish: {package} has sha256 {found}, wanted {digest}")
        unpack(archives / name, target, package.rpartition("@")[0])


def unpack(archive, target, package):
    """The files that the page asks for, and licences."""
    with tarfile.open(archive) as tar:
        for member in tar:
            path = f"{package}/{member.name.partition('/')[2]}"
            if member.isfile() and (path in FILES.values() or KEPT.match(path)):
                (target / path).parent.mkdir(parents=True, exist_ok=True)
                (target / path).write_bytes(tar.extractfile(member).read())


def local(page):
    """The page with every address of another host replaced by a file below v/, without the hash of the file that it replaces."""
    def replace(tag):
        wanted = next((file for end, file in FILES.items() if tag[1].endswith(end)), None)
        if wanted is None:
            raise ValueError(f"publish: asv's page loads {tag[1]}, which publish.py does not know")
        return re.sub(r' (?:integrity|crossorigin|referrerpolicy)="[^"]*"', "", tag[0].replace(tag[1], f"v/{wanted}"))

    return TAG.sub(replace, page)


def remote(html):
    """What the pages and styles below `html` would still load from another host."""
    pages = [f"{path}: {address}" for path in html.glob("*.html") for address in TAG.findall(path.read_text())]
    styles = [f"{path}: {address}" for path in html.rglob("*.css") for address in re.findall(r"url\(['\"]?((?:https?:)?//[^)]+)", path.read_text())]
    return pages + styles


if __name__ == "__main__":
    sys.exit(main())
