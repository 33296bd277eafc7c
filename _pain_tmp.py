import numpy as np, sys
from pathlib import Path
from heatmap_pipeline.store.warehouse import Warehouse
from heatmap_pipeline.views.data import load_version
from heatmap_pipeline.views.replay import Books, Source
from heatmap_pipeline.views.book_map import map_record
with Warehouse(Path("/tmp/zz/A")).read() as con:
    v=load_version(con,("turnover",))
    for sym in ("BTCUSDT","ETHUSDT"):
        s=v.symbols[sym]; src=Source(v,s,s.models["turnover"],None,Books(64<<20))
        step=12*3600//s.candles.seconds; same=edge=n=0; e={w:0 for w in(3.,5.,10.,20.)}; near={"above":0,"below":0}; tot=0
        for at in range(step,len(src.model.times),step):
            for side,sg in (("above",1),("below",-1)):
                r=[map_record(src,at,None,w) for w in (3.,5.,10.,20.)]
                p=[x["max_pain"][side] for x in r]; q=[x["price"] if x else None for x in p]
                tot+=1; same+=len(set(q))==1
                for x,w in zip(p,e):
                    if x and abs(abs(x["distance_percent"])-w)<.2: e[w]+=1
        print(sym,"same in 3..20",same/tot,"edge",{w:c/tot for w,c in e.items()})
