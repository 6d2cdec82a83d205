"""SQLAlchemy, ORM and Core, with psycopg2: a mapped class as for plain columns."""
import sqlalchemy
from sqlalchemy import (BigInteger, Boolean, Column, Date, DateTime, Identity, LargeBinary,
                        MetaData, Numeric, Table, Text, bindparam, create_engine, event, func,
                        select, text)
from sqlalchemy.dialects import postgresql
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Session, declarative_base
from common import COLUMNS, HANAKO, NOBODY, ORDERED, PATIENTS, TARO, fails, same


class Patient(declarative_base()):
    __tablename__ = 'patient'
    id = Column(BigInteger, Identity(), primary_key=True)
    chart_no = Column(Text, nullable=False)
    insurance_no = Column(Text)
    name = Column(Text, nullable=False)
    birth_date = Column(Date)
    seen_at = Column(DateTime(timezone=True))
    weight = Column(Numeric)
    visits = Column(BigInteger)
    smoker = Column(Boolean)
    record = Column(JSONB(none_as_null=True))
    photo = Column(LargeBinary)


def row_of(patient):
    return tuple(getattr(patient, column) for column in COLUMNS)


def rows(connection, query):
    return [tuple(row) for row in connection.execute(query)]


engine = create_engine('postgresql+psycopg2://ehr@', future=True,
                       connect_args={'options': '-c phi.clinic=hakodate'})

# The ORM: one flush inserts all, each with its id by RETURNING.
with Session(engine) as session:
    session.add_all([Patient(**dict(zip(COLUMNS, row))) for row in PATIENTS])
    session.commit()
    same([row_of(patient) for patient in session.query(Patient).order_by(Patient.id)], PATIENTS)

    def names(*conditions):
        return list(session.scalars(select(Patient.name).where(*conditions).order_by(Patient.name)))

    same(names(), ORDERED)
    same(names(Patient.name == HANAKO[2], Patient.birth_date == HANAKO[3]), [HANAKO[2]])
    same(names(Patient.name.in_([HANAKO[2], TARO[2]])), ORDERED[:2])
    same(names(Patient.name.startswith('佐藤')), ORDERED[:2])
    same(names(Patient.name.ilike('%一郎')), [NOBODY[2]])
    same(names(Patient.birth_date.is_(None)), [NOBODY[2]])
    same(names(Patient.weight > 0, Patient.visits >= 3, Patient.smoker.is_(False)), [HANAKO[2]])
    same(names(Patient.record['n'].as_float() == 1.5), [HANAKO[2]])
    same(names(func.extract('year', Patient.birth_date) == 2024), [TARO[2]])
    same(rows(session, select(func.min(Patient.birth_date), func.sum(Patient.weight),
                              func.count(Patient.name.distinct()))),
         [(HANAKO[3], HANAKO[5] + TARO[5], 3)])
    same(rows(session, select(Patient.name, func.count()).group_by(Patient.name)
              .having(Patient.name == TARO[2])), [(TARO[2], 1)])
    session.execute(text('SET LOCAL enable_seqscan = off'))
    query = str(select(Patient.id).where(Patient.name == bindparam('name')))
    plan = session.scalars(text('EXPLAIN ' + query), {'name': HANAKO[2]}).all()
    assert any('Index Cond' in line for line in plan), plan

    patient = session.scalars(select(Patient).where(Patient.name == HANAKO[2])).one()
    patient.birth_date, patient.record = TARO[3], {'changed': True}
    session.commit()
    same((patient.birth_date, patient.record), (TARO[3], {'changed': True}))
    session.delete(session.scalars(select(Patient).where(Patient.name == TARO[2])).one())
    session.commit()
    session.add(Patient(chart_no=HANAKO[0], name='twice'))
    fails('23505', session.commit)
    session.rollback()
    same(names(), [HANAKO[2], NOBODY[2]])

# Core: an upsert, and a table that SQLAlchemy reads from the catalogue, told
# what the types are. It hands on the class of the data, which is nothing to Python.
for name, kind in {'enctext': Text(), 'encdate': Date(), 'enctimestamptz': DateTime(timezone=True),
                   'encnumeric': Numeric(), 'encbigint': BigInteger(), 'encboolean': Boolean(),
                   'encjsonb': JSONB(), 'encbytea': LargeBinary()}.items():
    postgresql.base.ischema_names[name] = lambda *data_class, kind=kind: kind
table = Table('patient', MetaData(), autoload_with=engine)
same([type(table.c[name].type) for name in ('chart_no', 'birth_date', 'record')], [Text, Date, JSONB])
with engine.begin() as connection:
    upsert = postgresql.insert(table).values([{'chart_no': f'V-{n}', 'name': f'患者 {n}'} for n in range(300)]
                                             + [{'chart_no': HANAKO[0], 'name': HANAKO[2]}])
    upsert = upsert.on_conflict_do_update(index_elements=['chart_no'], set_={'name': upsert.excluded.name})
    same(connection.execute(upsert).rowcount, 301)
    same(rows(connection, select(table.c.name, table.c.birth_date)
              .where(table.c.chart_no == HANAKO[0])), [(HANAKO[2], TARO[3])])
    same(connection.execute(table.delete().where(table.c.name.like('患者%'))).rowcount, 300)

# One pool for all clinics: each transaction says whose it is.
shared = create_engine('postgresql+psycopg2://ehr@', future=True, pool_size=1, max_overflow=0)


@event.listens_for(shared, 'begin')
def open_clinic(connection):
    connection.execute(text("SELECT set_config('phi.clinic', :clinic, true)"), {'clinic': clinic})


for clinic, count in (('hakodate', 2), ('boston', 0), ('', 0)):
    with shared.begin() as connection:
        same(connection.scalar(select(func.count()).select_from(table)), count)

print('SQLAlchemy', sqlalchemy.__version__)
