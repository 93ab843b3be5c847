"""A simulated cohort laid out as public cohorts are, so that what reads those can be tried without a patient."""

from __future__ import annotations

from cars_core.phantom.layouts.chexpert import CheXpert
from cars_core.phantom.layouts.dicom import Dicom
from cars_core.phantom.layouts.drawn import Layout
from cars_core.phantom.layouts.mimic import Mimic
from cars_core.phantom.layouts.nih import Nih

LAYOUTS: dict[str, Layout] = {layout.name: layout for layout in (Nih(), CheXpert(), Mimic(), Dicom())}
