"""DICOM files: what their headers may tell, and their pixels. Loaded only where there is DICOM."""
