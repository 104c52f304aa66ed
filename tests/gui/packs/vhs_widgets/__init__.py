"""What VideoHelperSuite's JavaScript does to its widgets, for a ComfyUI with the doubles."""

NODE_CLASS_MAPPINGS: dict[str, type] = {}
WEB_DIRECTORY = "./web"
