"""Small DICOM films with known stored values, in any transfer syntax, written by libraries the reader does not use
where there is one."""

from __future__ import annotations

import io
import warnings
import zlib
from typing import Any

import gdcm
import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import UID, DeflatedExplicitVRLittleEndian, DigitalXRayImageStorageForPresentation, ExplicitVRBigEndian
from pydicom.uid import ExplicitVRLittleEndian as EXPLICIT

JPEG = "1.2.840.10008.1.2.4"
ENCODERS = {"1.2.840.10008.1.2.5": "pydicom", f"{JPEG}.80": "pyjpegls", f"{JPEG}.81": "pyjpegls",
            f"{JPEG}.90": "pylibjpeg", f"{JPEG}.91": "pylibjpeg"}
INSTANCE = "1.2.826.0.1.3680043.8.498.1"


def scene(bits: int = 12, *, signed: bool = False, height: int = 80, width: int = 100, seed: int = 0) -> np.ndarray:
    """A smooth picture with a little noise that uses nearly all its bits, [height, width]."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    wave = 0.5 + 0.48 * np.sin(x / 17) * np.cos(y / 23)
    values = np.rint(wave * ((1 << bits) - 1) + rng.normal(0, 1, wave.shape)).clip(0, (1 << bits) - 1).astype(np.int64)
    if signed:
        return (values - (1 << (bits - 1))).astype(np.int8 if bits == 8 else np.int16)
    return values.astype(np.uint8 if bits == 8 else np.uint16)


def dataset(values: np.ndarray, *, bits: int = 12, **more: Any) -> Dataset:
    """An uncompressed data set of the values [H, W] or [H, W, 3]; more elements by keyword, None to leave one out."""
    ds = Dataset()
    ds.SOPClassUID, ds.SOPInstanceUID, ds.Modality = DigitalXRayImageStorageForPresentation, INSTANCE, "DX"
    ds.PatientID = "P1"
    ds.Rows, ds.Columns = values.shape[:2]
    ds.SamplesPerPixel = 1 if values.ndim == 2 else 3
    ds.PhotometricInterpretation = "MONOCHROME2" if values.ndim == 2 else "RGB"
    if values.ndim == 3:
        ds.PlanarConfiguration = 0
    ds.BitsAllocated = 8 * values.itemsize
    ds.BitsStored, ds.HighBit = bits, bits - 1
    ds.PixelRepresentation = int(values.dtype.kind == "i")
    for name, value in more.items():
        if value is None:
            if name in ds:
                delattr(ds, name)
        else:
            setattr(ds, name, value)
    ds.PixelData = values.astype(values.dtype.newbyteorder("<")).tobytes()
    ds["PixelData"].VR = "OW" if ds.BitsAllocated == 16 else "OB"
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = EXPLICIT
    ds.file_meta.MediaStorageSOPClassUID, ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPClassUID, ds.SOPInstanceUID
    return ds


def saved(ds: Dataset, syntax: str = EXPLICIT, *, stream: bytes | None = None) -> bytes:
    """The file. With `stream`, that is the one compressed frame; else the pixels stay as they are."""
    ds.file_meta.TransferSyntaxUID = UID(syntax)
    if stream is not None:
        ds.PixelData = encapsulate([stream])
        ds["PixelData"].VR, ds["PixelData"].is_undefined_length = "OB", True
    if syntax == ExplicitVRBigEndian and ds.BitsAllocated == 16:
        ds.PixelData = np.frombuffer(ds.PixelData, "<u2").astype(">u2").tobytes()
    out = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ds.save_as(out, enforce_file_format=True)
    return out.getvalue()


def film(values: np.ndarray, syntax: str = EXPLICIT, *, stream: bytes | None = None, bits: int = 12,
         **more: Any) -> bytes:
    """A DICOM file of the values."""
    return saved(dataset(values, bits=bits, **more), syntax, stream=stream)


def compressed(values: np.ndarray, syntax: str, *, bits: int = 12, settings: dict[str, Any] | None = None,
               **more: Any) -> bytes:
    """A DICOM file of the values, encoded by a library other than GDCM, which aborts on some sizes."""
    ds = dataset(values, bits=bits, **more)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ds.compress(UID(syntax), generate_instance_uid=False, encoding_plugin=ENCODERS[syntax], **(settings or {}))
    return saved(ds, syntax)


def deflated(body: bytes) -> bytes:
    """A file whose data set is `body`, explicit little endian, deflated."""
    head = film(np.zeros((64, 64), np.uint8), DeflatedExplicitVRLittleEndian, bits=8)
    length = int.from_bytes(head[140:144], "little")
    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    return head[:144 + length] + packer.compress(body) + packer.flush()


def gdcm_stream(values: np.ndarray, syntax: str, *, bits: int = 12) -> bytes:
    """The values as GDCM encodes them for a JPEG syntax."""
    image = gdcm.Image()
    image.thisown = False  # `change` counts its references, and deletes it
    image.SetNumberOfDimensions(2)
    image.SetDimensions((values.shape[1], values.shape[0], 1))
    image.SetPixelFormat(gdcm.PixelFormat(values.ndim if values.ndim == 3 else 1, 8 * values.itemsize, bits, bits - 1,
                                          int(values.dtype.kind == "i")))
    kind = gdcm.PhotometricInterpretation.GetPIType("RGB" if values.ndim == 3 else "MONOCHROME2")
    image.SetPhotometricInterpretation(gdcm.PhotometricInterpretation(kind))
    image.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.ExplicitVRLittleEndian))
    element = gdcm.DataElement(gdcm.Tag(0x7FE0, 0x0010))
    element.SetByteStringValue(values.tobytes())
    image.SetDataElement(element)
    change = gdcm.ImageChangeTransferSyntax()
    change.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.GetTSType(syntax)))
    change.SetInput(image)
    assert change.Change(), syntax
    after = change.GetOutput()  # each is kept: they own what the next points into
    held = after.GetDataElement()
    fragments = held.GetSequenceOfFragments()
    parts = []
    for i in range(fragments.GetNumberOfFragments()):
        fragment = fragments.GetFragment(i)
        value = fragment.GetByteValue()
        parts.append(value.GetBuffer().encode("utf-8", "surrogateescape"))
    return b"".join(parts)
