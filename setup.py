"""`pip install .`: the core, the command line and the hand-written ROS modules; `colcon build` adds the messages."""

from setuptools import find_packages, setup

setup(
    name="ivlm_ros",
    version="0.1.0",
    description="3D human contact and object affordance from one camera image (InteractVLM), for ROS 2",
    license="Apache-2.0",
    python_requires=">=3.10",
    # Only these two names: colcon's build/ and install/ folders hold copies of both.
    packages=find_packages(include=["ivlm_core", "ivlm_core.*", "ivlm_ros", "ivlm_ros.*"]),
    package_data={
        "ivlm_core": [
            "profiles/*",
            "**/data/*",
            "**/*.json",
            "**/*.npz",
            "**/*.safetensors",
            "**/*.yaml",
        ],
        "ivlm_ros.replay": ["*.css", "*.js"],
    },
    install_requires=[
        "accelerate>=0.30",
        "anny>=0.6",
        "backports-zstd>=1.0; python_version < '3.14'",
        "lz4>=4.0",
        "numpy>=1.24",
        "open3d>=0.18",
        "opencv-python-headless>=4.8",
        "peft>=0.15",
        "pillow>=9",
        "plotly>=5.20",
        "pyyaml>=6",
        "rosbags>=0.10",
        "safetensors>=0.4",
        "scikit-image>=0.22",
        "scipy>=1.10",
        "segment-anything>=1.0",
        "sentencepiece>=0.2",
        "smplx>=0.1.28",
        "tokenizers>=0.20",
        "torch>=2.4",
        "torchvision>=0.19",
        "tqdm>=4.60",
        "transformers>=5.0",
        "trimesh>=4.0",
        "viser>=1.1,<2",
        "websockets>=13.1",
    ],
    entry_points={"console_scripts": ["ivlm = ivlm_core.cli:main"]},
    zip_safe=False,
)
