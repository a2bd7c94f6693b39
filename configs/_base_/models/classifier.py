# A classifier: the mean over the last map, then a linear layer. Children add the
# backbone, and the classes and the width of the head.
model = dict(
    type="ImageClassifier",
    neck=dict(type="GlobalAveragePooling"),
    head=dict(
        type="LinearClsHead",
        loss=dict(type="CrossEntropyLoss"),
        init_cfg=dict(type="TruncNormal", layer="Linear", std=0.02),
    ),
)
