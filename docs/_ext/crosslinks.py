"""The name of an operation or of a requirement, wherever it stands in a page, leads to where it is specified."""

from __future__ import annotations

import re

from docutils import nodes
from sphinx.transforms.post_transforms import SphinxPostTransform
from sphinx.util.nodes import make_refnode

from moespec.registry import OPS

REQUIREMENTS = {r.id: op.name for op in OPS.values() for r in op.requirements}
WORDS = re.compile(rf"(?<![\w-])({'|'.join(sorted(REQUIREMENTS, key=len, reverse=True))})(?![\w-])")


class Crosslinks(SphinxPostTransform):
    """Turn names into links."""

    default_priority = 400

    def run(self, **kwargs):
        for node in list(self.document.findall(nodes.literal)):
            self._link(node, node.astext().removeprefix("moespec."))
        for node in list(self.document.findall(nodes.Text)):
            if WORDS.search(node) and not _linked(node):
                node.parent.replace(node, self._parts(node))

    def _link(self, node, text):
        text = self._in_family(text)
        if (text in OPS or text in REQUIREMENTS) and not _linked(node):
            node.replace_self(self._reference(text, node.deepcopy()))

    def _in_family(self, text):
        """On an operation's page its neighbours go by their short names, unless that is the name of one of its arguments."""
        op = OPS.get(self.env.docname.removeprefix("spec/"))
        if op is None or text in {a.name for a in op.inputs + op.outputs}:
            return text
        return f"{op.name.split('.')[0]}.{text}" if f"{op.name.split('.')[0]}.{text}" in OPS else text

    def _parts(self, node):
        """The text, cut where an id is."""
        for i, part in enumerate(WORDS.split(node)):
            if part:
                yield self._reference(part, nodes.Text(part)) if i % 2 else nodes.Text(part)

    def _reference(self, name, child):
        page, anchor = (f"spec/{name}", "") if name in OPS else (f"spec/{REQUIREMENTS[name]}", name.lower().replace("_", "-"))
        if page == self.env.docname:
            return child
        return make_refnode(self.app.builder, self.env.docname, page, anchor, child)


def _linked(node):
    """Inside of a link, a heading, code, or the definition itself."""
    while node is not None:
        if isinstance(node, (nodes.reference, nodes.title, nodes.literal_block, nodes.raw)):
            return True
        if isinstance(node, nodes.Element) and "requirement" in node["classes"]:
            return True
        node = node.parent
    return False
