"""XMP, the notes of a picture in XML (ISO 16684-1): what is no longer true goes out, what a mark says comes in.

A packet comes from a stranger. One that declares a document type, of which bombs of entities are made, one that is
too large or has too many parts, and one that is not XML are ignored.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING
from xml.parsers.expat import ExpatError

if TYPE_CHECKING:
    from xml.dom.minidom import Document, Element

MAX_BYTES = 1024**2
MAX_PARTS = 20_000  # a part takes about a kilobyte once it is parsed

IPTC = "http://iptc.org/std/Iptc4xmpExt/2008-02-29/"
_RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
_XMLNS = "http://www.w3.org/2000/xmlns/"
_TIFF, _EXIF = "http://ns.adobe.com/tiff/1.0/", "http://ns.adobe.com/exif/1.0/"
_EMPTY = f'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="{_RDF}"/></x:xmpmeta>'
# Not true of the upright photo with another face; a reader takes the size from the file itself.
_STALE = {
    (_TIFF, "Orientation"),
    (_TIFF, "ImageWidth"),
    (_TIFF, "ImageLength"),
    (_EXIF, "PixelXDimension"),
    (_EXIF, "PixelYDimension"),
    ("http://ns.adobe.com/xap/1.0/", "Thumbnails"),
    ("http://ns.adobe.com/xmp/note/", "HasExtendedXMP"),
}
# About further pictures in the file (gain maps, depth, short films), none of which is written.
_STALE_SPACES = {
    "http://ns.adobe.com/hdr-gain-map/1.0/",
    "http://ns.google.com/photos/1.0/container/",
    "http://ns.google.com/photos/1.0/camera/",
    "http://ns.google.com/photos/1.0/depthmap/",
    "http://ns.google.com/photos/1.0/image/",
}


def edit_packet(packet: bytes, properties: Mapping[str, str] | None = None) -> bytes:
    """Return a packet without what is no longer true, with properties of IPTC's extension schema set.

    Args:
        packet: as it stands in a file; empty, or anything.
        properties: text by name, such as DigitalSourceType; they replace those of these names.

    Returns:
        The packet in UTF-8; empty if there is nothing in it.
    """
    properties = properties or {}
    document = _parsed(packet)
    if document is None:
        if not properties:
            return b""
        document = _parsed(_EMPTY.encode())
        assert document is not None
    rdf = _rdf(document)
    assert rdf is not None
    for description in list(_descriptions(rdf)):
        _remove_stale(description, set(properties))
    if properties:
        rdf.appendChild(_description(document, rdf, properties))
    try:
        text = document.documentElement.toxml()  # type: ignore[union-attr]  # a parsed one has a root
    except RecursionError:
        return edit_packet(b"", properties)
    return f'<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>\n{text}\n<?xpacket end="w"?>'.encode()


def _parsed(packet: bytes) -> Document | None:
    """The packet as a tree with RDF in it; None where it has none, or is not to be read."""
    from xml.dom import minidom

    if len(packet) > MAX_BYTES or packet.count(b"<") > MAX_PARTS:
        return None
    try:
        text = packet.decode("utf-8").strip("\0 \r\n\t\ufeff")
        if "<!" in text.replace("<!--", "") or "<?xml-" in text:  # DOCTYPE, ENTITY, CDATA; style sheets
            return None
        document = minidom.parseString(text.encode())
    except (ExpatError, ValueError, RecursionError, LookupError):
        return None
    return document if _rdf(document) else None


def _rdf(document: Document) -> Element | None:
    """The RDF element: the root of a packet or in it."""
    root = document.documentElement
    for node in (root, *root.childNodes):  # type: ignore[union-attr]  # a parsed one has a root
        if node.nodeType == node.ELEMENT_NODE and (node.namespaceURI, node.localName) == (_RDF, "RDF"):
            return node
    return None


def _descriptions(rdf: Element) -> Iterator[Element]:
    for node in rdf.childNodes:
        if node.nodeType == node.ELEMENT_NODE and (node.namespaceURI, node.localName) == (_RDF, "Description"):
            yield node


def _remove_stale(description: Element, replaced: set[str]) -> None:
    """Remove properties, which are attributes or children."""

    def is_stale(space: str | None, name: str | None) -> bool:
        return space in _STALE_SPACES or (space, name) in _STALE or (space == IPTC and name in replaced)

    for attribute in list(description.attributes.values()):
        if is_stale(attribute.namespaceURI, attribute.localName):
            description.removeAttributeNode(attribute)
    for child in list(description.childNodes):
        if child.nodeType == child.ELEMENT_NODE and is_stale(child.namespaceURI, child.localName):
            description.removeChild(child)


def _description(document: Document, rdf: Element, properties: Mapping[str, str]) -> Element:
    """A description with these properties, of what the others describe."""
    prefix = f"{rdf.prefix}:" if rdf.prefix else ""
    added = document.createElementNS(_RDF, f"{prefix}Description")
    about = next((d.getAttributeNS(_RDF, "about") for d in _descriptions(rdf)), "")
    added.setAttributeNS(_XMLNS, "xmlns:rdf", _RDF)
    added.setAttributeNS(_RDF, "rdf:about", about)
    added.setAttributeNS(_XMLNS, "xmlns:Iptc4xmpExt", IPTC)
    for name, value in properties.items():
        added.setAttributeNS(IPTC, f"Iptc4xmpExt:{name}", value)
    return added
