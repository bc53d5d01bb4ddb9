"""What pyproject.toml has no word for: the package holds ``configs/`` too."""

from setuptools import find_packages, setup

CONFIGS = "dnl_det.model_zoo.configs"

setup(
    packages=[*find_packages(include=["dnl_det*"]), CONFIGS],
    package_dir={CONFIGS: "configs"},
)
